"""Faults that a review of the store found, each as a test."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from goqueue.model.admin import Duty
from goqueue.model.errors import InvalidInput, KeyBusy, StoreUnavailable
from goqueue.model.job import Unique
from goqueue.model.lease import Beat, Signal, Want, WorkerInfo
from goqueue.model.outcome import Answer
from goqueue.model.query import ChangeStatus, EnqueueStatus, Filter, Query, RetryJobs, Selection
from goqueue.model.state import JobState
from goqueue.store.postgres import partitions
from tests.postgres.test_concurrency import MakeStore, claim, done, job, make_store, register

__all__ = ["make_store"]  # a fixture


def execute(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


async def test_an_id_that_is_history_can_end_again(make_store: MakeStore) -> None:
    """A client's own id used twice, or the bytes of an old connection that come late."""
    store = await make_store()
    worker_id = await register(store)
    again = job()
    for _ in range(2):
        assert (await store.enqueue([again]))[0].status is EnqueueStatus.INSERTED
        (lease,) = await claim(store, worker_id)
        assert await store.settle([done(lease)]) == [Answer.APPLIED]
    assert await claim(store, worker_id) == []


async def test_a_claim_brings_jobs_although_an_id_that_goes_along_is_history(make_store: MakeStore) -> None:
    store = await make_store()
    worker_id = await register(store)
    twice, other, third = job(), job(), job()
    await store.enqueue([twice])
    await store.settle([done(lease) for lease in await claim(store, worker_id)])
    await store.enqueue([twice, other])
    leases = await claim(store, worker_id)
    await store.enqueue([third])
    claimed = await store.claim(Want(worker_id=worker_id, queues=("default",), total=10), [done(x) for x in leases])
    assert claimed.settled == (Answer.APPLIED,) * 2
    assert [lease.id for lease in claimed.leases] == [third.id]
    assert await store.settle([done(lease) for lease in leases]) == [Answer.ALREADY] * 2


async def test_an_id_that_is_live_and_history_does_not_stop_a_retry(make_store: MakeStore) -> None:
    store = await make_store()
    worker_id = await register(store)
    twice, other = job(), job()
    await store.enqueue([twice, other])
    leases = await claim(store, worker_id)
    await store.settle([done(lease) for lease in leases])
    await store.enqueue([twice])
    changed = await store.change(Selection("default", (twice.id, other.id)), RetryJobs())
    assert [c.status for c in changed] == [ChangeStatus.UNCHANGED, ChangeStatus.CHANGED]


async def test_one_bad_orphan_does_not_stop_the_sweep(make_store: MakeStore, database_url: str) -> None:
    store = await make_store()
    worker_id = await register(store)
    await store.enqueue([job() for _ in range(6)])
    leases = await claim(store, worker_id)
    # Only the first of them meets this when it is taken back.
    execute(
        database_url,
        f"ALTER TABLE goqueue.job ADD CONSTRAINT bad CHECK (id <> '{leases[0].id}' OR state = 1) NOT VALID",
    )
    await store.extend(Beat(worker=WorkerInfo(id=worker_id), ttl_s=0))
    assert (await store.sweep(Duty.ORPHANS, 100)).count == 5
    records = await store.get("default", [lease.id for lease in leases])
    assert [r.state for r in records if r] == [JobState.RUNNING] + [JobState.RETRYING] * 5


async def test_a_read_only_database_is_unavailable(make_store: MakeStore, database_url: str) -> None:
    store = await make_store()
    worker_id = await register(store)
    await store.enqueue([job()])
    (lease,) = await claim(store, worker_id)
    name = psycopg.conninfo.conninfo_to_dict(database_url)["dbname"]
    execute(database_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    other = await make_store()
    with pytest.raises(StoreUnavailable, match="read-only"):
        await other.settle([done(lease)])
    assert await store.settle([done(lease)]) == [Answer.APPLIED]


async def test_a_client_does_not_prepare_before_it_knows_that_it_may(make_store: MakeStore) -> None:
    from goqueue.store.postgres._async.jobs import LEARN_AFTER, AsyncPostgresJobs

    store = await make_store()
    jobs = AsyncPostgresJobs(store._database.url)
    try:
        await jobs.enqueue([job()])
        assert not jobs._database.prepare
        for _ in range(LEARN_AFTER):
            await jobs.enqueue([job()])
        assert jobs._database.prepare
    finally:
        await jobs.close()


async def test_a_store_behind_a_pooler_never_prepares(
    make_store: MakeStore, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await make_store()
    database = store._database
    connect = database.connect

    async def elsewhere() -> Any:
        monkeypatch.setattr(database, "url", empty_database_url)
        return await connect()

    listener = await connect()
    await listener.execute("LISTEN goqueue")
    monkeypatch.setattr(database, "connect", elsewhere)
    assert await database.hears_itself(listener, 0.2) is False
    assert database.prepare is False
    await listener.close()


async def test_a_deadline_leaves_nothing_behind_in_the_server(make_store: MakeStore, database_url: str) -> None:
    store = await make_store(statement_timeout_s=0.5)
    unique = Unique(key="k")
    async with await psycopg.AsyncConnection.connect(database_url) as holder:
        await store.enqueue_in(holder, [job(unique=unique)])
        for _ in range(3):
            with pytest.raises((StoreUnavailable, KeyBusy)):
                await store.enqueue([job(unique=unique)])
        async with asyncio.timeout(5):
            while await _waiting(database_url):
                pass
        await holder.rollback()
    assert await store.count(Filter()) == []


async def _waiting(url: str) -> int:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        row = await (await connection.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")).fetchone()
        assert row is not None
        return int(row[0])


async def test_a_cancelled_task_ends_whatever_the_connections_do(make_store: MakeStore, database_url: str) -> None:
    store = await make_store()

    async def loop() -> None:
        while True:
            try:
                await store.ping()
            except StoreUnavailable:
                await asyncio.sleep(0)

    task = asyncio.create_task(loop())
    for _ in range(3):
        await asyncio.sleep(0.05)
        execute(
            database_url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
    async with asyncio.timeout(10):
        while not task.done():
            task.cancel()  # again and again, as the engine does: Python 3.11's wait_for can swallow one
            await asyncio.wait({task}, timeout=0.5)
    assert task.cancelled()


async def test_a_callers_row_factory_does_not_matter(make_store: MakeStore, database_url: str) -> None:
    store = await make_store()
    async with await psycopg.AsyncConnection.connect(database_url, row_factory=dict_row) as conn:
        answers = await store.enqueue_in(conn, [job(), job(unique=Unique(key="k"))])
        assert [a.status for a in answers] == [EnqueueStatus.INSERTED] * 2
        cursor = await conn.execute("SELECT 1 AS one")
        assert await cursor.fetchone() == {"one": 1}


async def test_a_batch_on_an_autocommit_connection_is_all_or_nothing(make_store: MakeStore, database_url: str) -> None:
    store = await make_store(statement_timeout_s=1.0)
    async with (
        await psycopg.AsyncConnection.connect(database_url) as holder,
        await psycopg.AsyncConnection.connect(database_url, autocommit=True) as conn,
    ):
        await store.enqueue_in(holder, [job(unique=Unique(key="k"))])
        await conn.execute("SET statement_timeout = '200ms'")
        with pytest.raises(StoreUnavailable):
            await store.enqueue_in(conn, [job(), job(unique=Unique(key="k"))])
        await holder.rollback()
    assert await store.count(Filter()) == []


async def test_callers_connections_that_cannot_work_are_refused(make_store: MakeStore, database_url: str) -> None:
    store = await make_store()
    async with await psycopg.AsyncConnection.connect(database_url) as conn, conn.pipeline():
        with pytest.raises(InvalidInput, match="pipeline"):
            await store.enqueue_in(conn, [job()])
    async with await psycopg.AsyncConnection.connect(database_url, client_encoding="latin1") as conn:
        with pytest.raises(InvalidInput, match="client_encoding"):
            await store.enqueue_in(conn, [job()])
    with pytest.raises(InvalidInput, match="AsyncConnection"):
        await store.enqueue_in(object(), [job()])


async def test_an_urgent_job_does_not_wait_behind_a_busy_queue(make_store: MakeStore) -> None:
    store = await make_store()
    worker_id = await register(store)
    signals = store.signals("default", ("default",))
    assert await anext(signals) == Signal("")
    await store.enqueue([job(priority=5) for _ in range(1_000)])
    assert len(await claim(store, worker_id, 5)) == 5
    urgent = job(priority=0)
    await store.enqueue([urgent])
    assert await anext(signals) == Signal("default")
    deadline = time.monotonic() + 2
    while urgent.id not in [lease.id for lease in await claim(store, worker_id, 5)]:
        assert time.monotonic() < deadline
    await signals.aclose()  # type: ignore[attr-defined]  # it is a generator


async def test_paused_queues_do_not_hide_others(make_store: MakeStore) -> None:
    store = await make_store(lanes_max=3)
    worker_id = await register(store)
    paused = ["p1", "p2", "p3"]
    await store.enqueue([job(queue=queue) for queue in [*paused, "ok"]])
    for queue in paused:
        await store.pause("default", queue, paused=True)
    assert [lease.queue for lease in await claim(store, worker_id, 10, *paused, "ok")] == ["ok"]


async def test_a_pause_does_not_wait_for_a_backup(make_store: MakeStore, database_url: str) -> None:
    store = await make_store()
    async with await psycopg.AsyncConnection.connect(database_url) as dump:
        await dump.execute("LOCK TABLE goqueue.queue_pause IN ACCESS SHARE MODE")
        async with asyncio.timeout(2):
            await store.pause("default", "default", paused=True)
        assert await store.paused("default") == ["default"]


async def test_a_page_is_one_snapshot(make_store: MakeStore) -> None:
    """Jobs that end between the look at live jobs and the look at history are neither repeated nor skipped."""
    store = await make_store()
    worker_id = await register(store)
    for _ in range(15):
        jobs = [job() for _ in range(20)]
        await store.enqueue(jobs)
        leases = await claim(store, worker_id)
        query = Query(filter=Filter(ids=tuple(j.id for j in jobs)), page_size=100)
        page, _ = await asyncio.gather(store.find(query), store.settle([done(lease) for lease in leases]))
        assert sorted(r.id for r in page.jobs) == sorted(j.id for j in jobs)


async def test_days_are_the_databases(
    make_store: MakeStore, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await make_store()
    seen = []
    clock = partitions._clock

    async def spy(connection: Any) -> Any:
        seen.append(await clock(connection))
        return seen[-1]

    monkeypatch.setattr(partitions, "_clock", spy)
    await store.sweep(Duty.HISTORY, 100)
    assert len(seen) == 2  # to make, and to drop


@pytest.mark.parametrize("setting", ["default_transaction_isolation = 'repeatable read'", "datestyle = 'German'"])
async def test_settings_of_the_database_do_not_matter(make_store: MakeStore, database_url: str, setting: str) -> None:
    name = psycopg.conninfo.conninfo_to_dict(database_url)["dbname"]
    execute(database_url, f"ALTER DATABASE {name} SET {setting}")
    store, other = await make_store(), await make_store()
    worker_id = await register(store)
    for _ in range(5):
        await store.enqueue([job() for _ in range(50)])
        leases = await claim(store, worker_id)
        half = len(leases) // 2
        one, two = await asyncio.gather(
            store.settle([done(lease) for lease in leases[:half]]),
            other.settle([done(lease) for lease in leases[half:]]),
        )
        assert set(one + two) == {Answer.APPLIED}
    store.time_travel(30 * 86_400)
    assert (await store.sweep(Duty.HISTORY, 100)).count > 0
    records = await store.get("default", [leases[0].id])
    assert records == [None]


async def test_a_cancel_makes_the_partition_that_it_misses(make_store: MakeStore) -> None:
    from goqueue.model.query import CancelJobs

    store = await make_store()
    (answer,) = await store.enqueue([job()])
    store.time_travel(30 * 86_400)
    changed = await store.change(Selection("default", (answer.ref.id,)), CancelJobs())
    assert changed[0].status is ChangeStatus.CHANGED


async def test_a_locked_history_row_delays_no_other_delete(make_store: MakeStore, database_url: str) -> None:
    from goqueue.model.query import DeleteJobs

    store = await make_store()
    worker_id = await register(store)
    await store.enqueue([job(), job()])
    leases = await claim(store, worker_id)
    await store.settle([done(lease) for lease in leases])
    async with await psycopg.AsyncConnection.connect(database_url) as other:
        await other.execute("SELECT FROM goqueue.job_history WHERE id = %s FOR UPDATE", [leases[0].id])
        async with asyncio.timeout(5):
            changed = await store.change(Selection("default", tuple(lease.id for lease in leases)), DeleteJobs())
        assert [c.status for c in changed] == [ChangeStatus.BUSY, ChangeStatus.CHANGED]
