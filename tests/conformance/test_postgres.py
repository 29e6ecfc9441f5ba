"""The contract, held against PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import psycopg
import pytest

from goqueue.store.conformance import SETTINGS, Harness, StoreCases
from goqueue.store.postgres import PostgresStore


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
async def harness(database_url: str) -> AsyncIterator[Harness]:
    store = PostgresStore(database_url, settings=msgspec.structs.replace(SETTINGS, pool_max=4, self_test_s=0.2))
    await store.migrate()
    await store.open()
    yield PostgresHarness(store, database_url)
    await store.close()


class TestPostgres(StoreCases):
    """All cases."""
