"""The contract, held against PostgreSQL when all enqueues go through the stored functions.

The same cases as in `test_postgres.py`: whoever enqueues with SQL alone gets what the port promises. Nothing is left
out.
What a store does after the function has answered stays the store's: it wakes workers by itself (the function does so
only for queues where somebody has said to be idle), and what `complete_v1` refuses is answered by the store, which has
more answers than it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import psycopg
import pytest

from goqueue.model.errors import GoQueueError, InvalidJob, LeaseLost
from goqueue.model.job import NewJob
from goqueue.model.lease import Lease
from goqueue.model.outcome import Answer, Complete, Settlement
from goqueue.model.query import Enqueued
from goqueue.settings import StoreSettings
from goqueue.store.conformance import SETTINGS, Harness
from goqueue.store.conformance.enqueueing import EnqueueCases
from goqueue.store.conformance.expiring import ExpiryCases
from goqueue.store.conformance.extremes import ExtremeCases
from goqueue.store.conformance.key_ends import KeyEndCases
from goqueue.store.conformance.keys import KeyCases
from goqueue.store.conformance.laws import LawCases
from goqueue.store.conformance.retention import RetentionCases
from goqueue.store.conformance.settling import SettleCases
from goqueue.store.conformance.starting import StartCases
from goqueue.store.postgres import PostgresStore, fetch, functions
from goqueue.store.postgres.errors import DriverError, translate
from goqueue.store.postgres.retention import of_all, of_queue
from goqueue.tasks.prepare import prepare
from tests.conformance.test_postgres import PostgresHarness
from tests.support.database import POOLED


class FunctionStore(PostgresStore):
    """A store that enqueues, and completes, by calling the stored functions as any program could."""

    def __init__(self, url: str, *, settings: StoreSettings) -> None:
        super().__init__(url, settings=settings)
        self._url = url

    async def enqueue(self, jobs: Sequence[NewJob[Any]], retry: bool = False) -> list[Enqueued]:
        try:
            rows = await self._call(
                "SELECT e.id::text, e.status, (extract(epoch FROM e.created_at) * 1000000)::int8,"
                " (extract(epoch FROM e.run_at) * 1000000)::int8"
                " FROM goqueue.enqueue_many_v1(%s, %s, %s) WITH ORDINALITY AS e ORDER BY e.ordinality",
                functions.enqueue(jobs).payload,
                retry,
                self._now(),
            )
        except InvalidJob as refused:
            # A few cases store what no client sends, to see that a store survives it. The functions check as clients.
            with pytest.raises(InvalidJob, match=refused.pointer.removeprefix("/0")):
                [prepare(job) for job in jobs]
            return await super().enqueue(jobs, retry)
        await self._wake_later(jobs)
        return functions.enqueued(jobs, rows)

    async def settle(self, outcomes: Sequence[Settlement]) -> list[Answer]:
        if len(outcomes) != 1 or not isinstance(outcomes[0].outcome, Complete):
            return await super().settle(outcomes)
        return [await self._complete(outcomes[0], outcomes[0].outcome)]

    async def _complete(self, settlement: Settlement, outcome: Complete) -> Answer:
        """Complete by the function; for what it refuses, ask the store, which has more answers."""
        own = self._settings.queue_retention.get(settlement.ref.queue)
        kept_s = (of_queue(self._settings, own) if own else of_all(self._settings))[0]
        result = None if outcome.result is None else outcome.result.decode()
        try:
            rows = await self._call(
                "SELECT goqueue.complete_v1(%s, %s, %s, %s, %s)",
                settlement.ref.id,
                settlement.fence,
                result,
                kept_s,
                self._now(),
            )
        except GoQueueError:
            return (await super().settle([settlement]))[0]
        return Answer(rows[0][0])

    async def _call(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        try:
            async with await psycopg.AsyncConnection.connect(self._url) as connection:
                return await (await connection.execute(statement.encode(), parameters)).fetchall()
        except DriverError as e:
            raise translate(e) from e


@pytest.fixture
async def harness(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Harness]:
    monkeypatch.setattr(fetch, "SCAN_CHEAP_S", float("inf"))
    self_test_s = 0.05 if POOLED else 0.2
    settings = msgspec.structs.replace(SETTINGS, pool_max=4, self_test_s=self_test_s)
    store = FunctionStore(database_url, settings=settings)
    await store.open()
    yield PostgresHarness(store, database_url)
    await store.close()


@pytest.mark.asyncio
class TestFunctions(
    EnqueueCases,
    KeyCases,
    KeyEndCases,
    StartCases,
    SettleCases,
    ExpiryCases,
    ExtremeCases,
    LawCases,
    RetentionCases,
):
    """All cases that enqueue in any special way, or complete."""


async def test_a_job_that_is_not_leased_is_refused(harness: Harness) -> None:
    lease: Lease = await harness.run()
    store = harness.store
    assert isinstance(store, FunctionStore)
    with pytest.raises(LeaseLost, match="fence 99"):
        await store._call("SELECT goqueue.complete_v1(%s, 99)", lease.id)
    assert await store._call("SELECT goqueue.complete_v1(%s, %s)", lease.id, lease.fence) == [("applied",)]
    assert await store._call("SELECT goqueue.complete_v1(%s, %s)", lease.id, lease.fence) == [("already",)]
