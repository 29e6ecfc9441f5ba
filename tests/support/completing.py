"""A database with a table for effects, and workers whose handlers complete their jobs there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from structlog.testing import capture_logs

from goqueue import GoQueue
from goqueue.engine.worker import Worker
from goqueue.model.job import JobRecord, NewJob
from goqueue.settings import Retention, StoreSettings, WorkerSettings
from goqueue.store.postgres import PostgresStore
from goqueue.tasks.prepare import prepare
from goqueue.wiring import completer

DEADLINE_S = 60.0
QUICK = WorkerSettings(poll_s=0.02, beat_s=0.1, lease_s=3.0, lease_margin_s=0.1, cancel_grace_s=0.5, grace_s=0.2)
FAILURES = {"retry", "dead", "lose", "settle", "crash", "abandon"}


class Place:
    """A database with a table for effects, and workers on it."""

    def __init__(self, url: str, settings: StoreSettings) -> None:
        self.url = url
        self.settings = settings
        self.store = PostgresStore(url, settings=settings)
        self.logs: list[Any] = []

    @asynccontextmanager
    async def working(self, app: GoQueue, settings: WorkerSettings = QUICK, **more: Any) -> AsyncIterator[Worker]:
        how = completer(self.store, self.settings)
        worker = Worker(app, self.store, settings, queues=("default", "no-trace"), completer=how, **more)
        with capture_logs() as self.logs:
            running = asyncio.create_task(worker.run())
            try:
                async with asyncio.timeout(DEADLINE_S):
                    yield worker
            finally:
                worker.stop()
                await running

    async def enqueue(self, job: NewJob[Any]) -> NewJob[Any]:
        ready = prepare(job)
        await self.store.enqueue([ready])
        return ready

    async def record(self, job: NewJob[Any]) -> JobRecord:
        (record,) = await self.store.get("default", [job.id])
        assert record is not None
        return record

    async def wait(self, job: NewJob[Any], wanted: Callable[[JobRecord], bool]) -> JobRecord:
        while True:
            record = await self.record(job)
            if wanted(record):
                return record
            await asyncio.sleep(0.02)

    async def final(self, job: NewJob[Any]) -> JobRecord:
        return await self.wait(job, lambda record: record.finished_at is not None)

    def effects(self, job: NewJob[Any]) -> list[int]:
        with psycopg.connect(self.url) as connection:
            rows = connection.execute("SELECT attempt FROM effect WHERE id = %s", [job.id]).fetchall()
        return [row[0] for row in rows]

    @property
    def failures(self) -> set[str]:
        return {entry["event"] for entry in self.logs if entry["log_level"] in ("warning", "error")} & FAILURES


@asynccontextmanager
async def a_place(database_url: str) -> AsyncIterator[Place]:
    """Make the table, and open a store. The queue ``no-trace`` keeps no history."""
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE effect (id uuid, attempt int)")
    kept = {"no-trace": Retention(completed_s=0.0)}
    here = Place(database_url, StoreSettings(queue_retention=kept, self_test_s=0.2))
    await here.store.open()
    yield here
    await here.store.close()
