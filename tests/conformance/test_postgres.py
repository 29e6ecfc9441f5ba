"""The contract, held against PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import psycopg
import pytest

from goqueue.store.conformance import SETTINGS, Harness, StoreCases
from goqueue.store.postgres import PostgresStore, fetch
from tests.support.database import POOLED


class PostgresHarness(Harness):
    """A store whose statements are told an instant that is as far ahead as the tests have travelled."""

    def __init__(self, store: PostgresStore, url: str) -> None:
        super().__init__(store)
        self._postgres = store
        self._url = url

    async def advance(self, seconds: float) -> None:
        self._postgres.time_travel(seconds)

    async def forget_worker(self, worker_id: str) -> None:
        async with await psycopg.AsyncConnection.connect(self._url) as connection:
            await connection.execute("DELETE FROM goqueue.worker WHERE id = %s", [worker_id])


@pytest.fixture
async def harness(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Harness]:
    # On a busy machine a look for live lanes costs much and rests before the next: the cases time-travel past that.
    monkeypatch.setattr(fetch, "SCAN_CHEAP_S", float("inf"))
    self_test_s = 0.05 if POOLED else 0.2  # through a pooler the answer is known, and waited for to the end
    store = PostgresStore(database_url, settings=msgspec.structs.replace(SETTINGS, pool_max=4, self_test_s=self_test_s))
    await store.migrate()
    await store.open()
    yield PostgresHarness(store, database_url)
    await store.close()


class TestPostgres(StoreCases):
    """All cases."""
