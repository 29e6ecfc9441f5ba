"""A rolling upgrade: the code of the last release goes on working on the new schema, beside the new code.

A process that runs checked the schema at its start, and what a release adds to it must not disturb that process; one
that starts afterwards refuses a schema that it does not know.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tarfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from goqueue.model.admin import Duty
from goqueue.model.job import NewJob, Unique
from goqueue.model.lease import Beat, Want, WorkerInfo
from goqueue.model.outcome import Complete, Settlement
from goqueue.model.query import EnqueueStatus, Filter, Query
from goqueue.model.retry import RetryDelays
from goqueue.model.state import JobState
from goqueue.settings import StoreSettings
from goqueue.store.postgres import PostgresStore, migrate
from goqueue.tasks.prepare import new_id, prepare

HERE = Path(__file__).parent
ANSWER_S = 60.0


class Release:
    """A process of an earlier release."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def __call__(self, *words: object) -> Any:
        """Send a command; return its answer."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(" ".join(map(str, words)).encode() + b"\n")
        await self._process.stdin.drain()
        async with asyncio.timeout(ANSWER_S):
            line = await self._process.stdout.readline()
        assert line, "the process of the earlier release has ended"
        return json.loads(line)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as it was when the schema had version 1."""
    folder = tmp_path_factory.mktemp("schema1")
    with tarfile.open(HERE / "releases" / "schema1.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "src"


@asynccontextmanager
async def running(package: Path, url: str) -> AsyncIterator[Release]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(HERE / "release.py"),
        url,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(package)},
    )
    try:
        yield Release(process)
    finally:
        assert process.stdin
        process.stdin.close()
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def schema_1(url: str) -> None:
    """Make the schema as that release did: its migration is the first of ours."""
    version, name, text = migrate.MIGRATIONS[0]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(migrate._BASE.encode())
        connection.execute(text.encode())
        connection.execute(
            "INSERT INTO goqueue.schema_migration (version, name, checksum) VALUES (%s, %s, %s)",
            (version, name, migrate.checksum(text)),
        )


def new(**options: Any) -> NewJob[Any]:
    return prepare(NewJob(kind="noop", args=b'{"a":1}', **options))


async def drain(store: PostgresStore) -> None:
    """Work until nothing is left."""
    worker_id = new_id()
    await store.extend(Beat(worker=WorkerInfo(id=worker_id, queues=("default",)), ttl_s=600))
    want = Want(worker_id=worker_id, queues=("default", "keyed", "new"), total=50)
    outcomes: list[Settlement] = []
    while True:
        claimed = await store.claim(want, outcomes)
        outcomes = [Settlement(lease.ref, lease.fence, Complete(b"1")) for lease in claimed.leases]
        if not outcomes:
            return


async def everything(store: PostgresStore) -> dict[str, JobState]:
    found: dict[str, JobState] = {}
    before = None
    while True:
        page = await store.find(Query(filter=Filter(), page_size=500, before_id=before))
        found |= {record.id: record.state for record in page.jobs}
        before = page.next_before_id
        if before is None:
            return found


async def test_old_workers_go_on_through_a_migration_under_load(package: Path, empty_database_url: str) -> None:
    url = empty_database_url
    schema_1(url)
    store = PostgresStore(url, settings=StoreSettings(self_test_s=0.5, crash_delay_s=0.0))
    made: set[str] = set()
    async with running(package, url) as old, running(package, url) as busy:
        assert await old("open") == "open"
        assert await busy("open") == "open"
        made.update(await old("enqueue", 20))
        held = await old("hold", 5)
        assert len(held) == 5
        migrated = asyncio.Event()

        async def load() -> None:
            """Enqueue and work all the time, also while the tables change."""
            while True:
                made.update(await busy("enqueue", 10))
                await busy("work", 6)
                if migrated.is_set():
                    return

        loading = asyncio.create_task(load())
        status = await store.migrate()
        migrated.set()
        await loading
        assert (status.current, status.pending) == (migrate.TARGET, ())
        await store.open()

        # What was leased before is settled after; what is done on the one side is seen on the other.
        assert await old("finish") == ["applied"] * 5
        mine = [new(queue="new", retry=RetryDelays(), deadline_s=600.0), new(queue="new", schedule_to_start_s=600.0)]
        made.update(answer.ref.id for answer in await store.enqueue(mine))
        told: dict[str, list[str]] = {"complete": [], "dead": [], "again": []}
        async with asyncio.timeout(ANSWER_S):
            while not {job.id for job in mine} <= {id for ids in told.values() for id in ids}:
                for how, ids in (await old("work", 500)).items():
                    told[how] += ids
        for id in told["dead"]:
            assert await old("retry", id) == "changed"
        assert await old("states", *told["complete"]) == ["completed"] * len(told["complete"])

        # One key, two releases, one holder.
        (answer,) = await store.enqueue([new(queue="keyed", unique=Unique(key="k"))])
        made.add(answer.ref.id)
        assert await old("key", "k") == ["duplicate", answer.ref.id]
        status_, id = await old("key", "other")
        assert status_ == "inserted"
        made.add(id)
        (met,) = await store.enqueue([new(queue="keyed", unique=Unique(key="other", until_started=True))])
        assert (met.status, met.ref.id) == (EnqueueStatus.DUPLICATE, id)
        assert await old("cancel", id) == "changed"

        made.update(await old("enqueue", 20))
        # A worker of the last release leaves with leases: either release sweeps them.
        assert len(await old("hold", 5)) == 5
        assert await old("leave") == 5
        assert len(await busy("hold", 5)) == 5
        await drain(store)
    store.time_travel(120)
    assert (await store.sweep(Duty.ORPHANS, 100)).count == 5
    await drain(store)
    found = await everything(store)
    assert set(found) == made
    final = {JobState.COMPLETED, JobState.DEAD, JobState.CANCELLED}
    assert {id: state for id, state in found.items() if state not in final} == {}
    await store.close()


async def test_jobs_of_the_new_release_pass_through_an_old_worker(package: Path, database_url: str) -> None:
    """It does not know of their limits: it runs them, and nobody ends them wrongly."""
    store = PostgresStore(database_url, settings=StoreSettings(self_test_s=0.5))
    schema = await store.schema()
    await store.open()
    with psycopg.connect(database_url, autocommit=True) as connection:
        # A process that is running has made its check when the schema had its version.
        connection.execute("UPDATE goqueue.schema_migration SET version = -version WHERE version > 1")
        async with running(package, database_url) as old:
            assert await old("open") == "open"
            connection.execute("UPDATE goqueue.schema_migration SET version = -version WHERE version < 0")
            jobs = [new(queue="new", schedule_to_start_s=100.0, deadline_s=1000.0) for _ in range(4)]
            jobs.append(new(queue="new", unique=Unique(key="k", until_started=True)))
            await store.enqueue(jobs)
            told = await old("work", 10)
            assert len([id for ids in told.values() for id in ids]) == 5
            (again,) = told["again"]
            # It has set run_at and left expire_at: the sweep reckons from the row.
            store.time_travel(99)
            await store.sweep(Duty.EXPIRED, 10)
            (record,) = await store.get("default", [again])
            assert record is not None
            assert record.state is JobState.RETRYING or record.state is JobState.READY
            assert record.deadline_at is not None
            # The key was free at the latest when the job had ended.
            (answer,) = await store.enqueue([new(queue="new", unique=Unique(key="k", until_started=True))])
            assert answer.status is EnqueueStatus.INSERTED
            for id in told["dead"]:
                assert await old("retry", id) == "changed"
            await drain(store)
    assert set((await everything(store)).values()) <= {JobState.COMPLETED, JobState.DEAD, JobState.CANCELLED}
    assert (await store.schema()).current == schema.current
    await store.close()


async def test_an_old_process_that_starts_refuses_the_new_schema(package: Path, database_url: str) -> None:
    async with running(package, database_url) as old:
        answer = await old("open")
    assert answer["error"] == "SchemaTooNew"
    assert "upgrade this process" in answer["text"]
    assert str(migrate.TARGET) in answer["text"]


@pytest.mark.parametrize("cut", ["invalid index", "valid index, not noted"])
async def test_a_concurrent_migration_that_was_cut_off_goes_on(database_url: str, cut: str) -> None:
    version = next(v for v, _, text in migrate.MIGRATIONS if text.startswith("-- concurrently: job_expire"))
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("DELETE FROM goqueue.schema_migration WHERE version = %s", (version,))
        if cut == "invalid index":
            connection.execute(
                "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'goqueue.job_expire'::regclass"
            )
        store = PostgresStore(database_url)
        assert (await store.schema()).pending != ()
        assert (await store.migrate()).pending == ()
        await store.close()
        row = connection.execute(
            "SELECT indisvalid FROM pg_index WHERE indexrelid = 'goqueue.job_expire'::regclass"
        ).fetchone()
    assert row == (True,)


async def test_a_migration_blocks_nobody_for_longer_than_its_lock_timeout(empty_database_url: str) -> None:
    """A reader that stays: the migration gives way again and again, and comes to its end when the reader has gone."""
    schema_1(empty_database_url)
    store = PostgresStore(empty_database_url, settings=StoreSettings(lock_timeout_s=0.1))
    async with await psycopg.AsyncConnection.connect(empty_database_url) as reader:
        await reader.execute("SELECT count(*) FROM goqueue.job")
        migrating = asyncio.create_task(store.migrate())
        async with await psycopg.AsyncConnection.connect(empty_database_url, autocommit=True) as other:
            for n in range(5):
                await _until_waiting(other)
                # As an enqueue of the last release does: it stands behind the migration, but not for long.
                await other.execute("SET statement_timeout = '5s'")
                await other.execute(
                    "INSERT INTO goqueue.job (id, created_at, run_at, tenant, queue, kind, args) "
                    "VALUES (%s, now(), now(), 'default', 'default', 'noop', '{}')",
                    (new_id(),),
                )
                assert not migrating.done(), n
        await reader.rollback()
    async with asyncio.timeout(30):
        assert (await migrating).pending == ()
    await store.close()


async def _until_waiting(connection: psycopg.AsyncConnection[Any]) -> None:
    async with asyncio.timeout(20):
        while True:
            cursor = await connection.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
            row = await cursor.fetchone()
            if row and row[0]:
                return
            await asyncio.sleep(0.01)


async def test_rights_given_before_a_migration_cover_what_it_adds(empty_database_url: str) -> None:
    schema_1(empty_database_url)
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute('CREATE ROLE "enqueuer of old"')
        try:
            connection.execute('GRANT UPDATE (run_at, priority) ON goqueue.job TO "enqueuer of old"')
            store = PostgresStore(empty_database_url)
            await store.migrate()
            await store.close()
            may: Callable[[str], Any] = lambda column: connection.execute(  # noqa: E731
                "SELECT has_column_privilege('enqueuer of old', 'goqueue.job', %s, 'UPDATE')", (column,)
            ).fetchone()
            added = ("flags", "retry", "schedule_to_start_s", "deadline_at", "expire_at")
            assert [may(column) for column in added] == [(True,)] * len(added)
            assert may("fence") == may("state") == (False,)
        finally:
            connection.execute('DROP OWNED BY "enqueuer of old"')
            connection.execute('DROP ROLE "enqueuer of old"')
