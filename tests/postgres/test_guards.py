"""Guards that nothing else missed when scripts/mutation took them away: locked rows, limits, what meets in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import psycopg
import pytest

from goqueue.model.admin import Duty
from goqueue.model.job import ErrorInfo, NewJob, OnConflict, Unique
from goqueue.model.lease import Beat, Held, Lease, WorkerInfo
from goqueue.model.limits import WORKER_KEPT_S
from goqueue.model.outcome import Answer, Complete, Dead, NewLog, Note, Outcome, Retry, Settlement
from goqueue.model.query import ChangeStatus, DeleteJobs, EnqueueStatus, RetryJobs, Selection
from goqueue.model.state import JobState
from goqueue.store.postgres import PostgresStore
from goqueue.store.postgres.sql import query
from goqueue.tasks.prepare import new_id
from tests.postgres.test_concurrency import MakeStore, claim, done, job, make_store, register

__all__ = ["make_store"]  # a fixture

FAILED = ErrorInfo("ValueError", "no")
SOON_S = 5.0
"""What passes over a lock is answered long before; what waits for it is not."""
ERRORS_MAX = 20


def one(id: str) -> Selection:
    return Selection("default", (id,))


def outcome(lease: Lease, what: Outcome) -> Settlement:
    return Settlement(lease.ref, lease.fence, what)


async def run(store: PostgresStore, worker_id: str, **options: Any) -> Lease:
    await store.enqueue([job(**options)])
    (lease,) = await claim(store, worker_id)
    return lease


async def state(store: PostgresStore, id: str) -> JobState | None:
    (record,) = await store.get("default", [id])
    return None if record is None else record.state


@asynccontextmanager
async def locked(url: str, table: str, column: str, value: object) -> AsyncIterator[None]:
    """Hold the lock of a row, as a slow transaction of somebody else does; what is done meanwhile has to end soon."""
    async with await psycopg.AsyncConnection.connect(url) as other:
        found = await other.execute(f"SELECT FROM goqueue.{table} WHERE {column} = %s FOR UPDATE".encode(), [value])
        assert found.rowcount == 1
        async with asyncio.timeout(SOON_S):
            yield
        await other.rollback()


async def statement(url: str, name: str, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
    """Run one statement as it is, at a moment at which no verb would."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        cursor = psycopg.AsyncRawCursor(connection)
        await cursor.execute(query(name), parameters)
        return await cursor.fetchall() if cursor.description else []


async def waits(url: str, task: asyncio.Task[Any], kind: str) -> bool:
    """Whether a task comes to wait for a lock; False if it ends instead."""
    async with asyncio.timeout(SOON_S), await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        while not task.done():
            rows = await connection.execute(
                "SELECT FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) "
                "WHERE a.datname = current_database() AND NOT l.granted AND l.locktype = %s",
                [kind],
            )
            if rows.rowcount:
                return True
            await asyncio.sleep(0.02)
    return False


# -- settle --------------------------------------------------------------------------------------------


async def test_an_outcome_on_the_last_attempt_is_as_it_says(make_store: MakeStore) -> None:
    store = await make_store()
    lease = await run(store, await register(store), max_attempts=1, max_crashes=1)
    assert await store.settle([outcome(lease, Retry(60.0, FAILED))]) == [Answer.APPLIED]
    assert await state(store, lease.id) is JobState.RETRYING


async def test_every_way_back_to_waiting_sets_the_instant_of_expiry(make_store: MakeStore, database_url: str) -> None:
    """A sweep would set it right: but it should have nothing to set right."""
    store = await make_store(crash_delay_s=50.0)
    worker_id = await register(store)
    await store.enqueue([job(schedule_to_start_s=100.0) for _ in range(2)])
    back, _orphan = await claim(store, worker_id)
    await store.settle([outcome(back, Retry(50.0, FAILED))])
    await store.extend(Beat(worker=WorkerInfo(id=worker_id), ttl_s=0))
    assert (await store.sweep(Duty.ORPHANS, 100)).count == 1
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        asked = "SELECT extract(epoch FROM expire_at - run_at)::float8 FROM goqueue.job"
        rows = await (await connection.execute(asked)).fetchall()
    assert rows == [(100.0,), (100.0,)]


async def test_a_job_holds_on_only_its_own_key(make_store: MakeStore, database_url: str) -> None:
    """A started job that would hold its key when it is final has lost it to another one."""
    store = await make_store()
    started = job(unique=Unique(key="k", final_states=(JobState.COMPLETED,)))
    assert started.unique is not None
    # A client of ours refuses to ask for both; another release need not.
    both = msgspec.structs.replace(started.unique, until_started=True)
    await store.enqueue([msgspec.structs.replace(started, unique=both)])
    (lease,) = await claim(store, await register(store))
    holder = job(unique=Unique(key="k"), delay_s=3600.0)
    assert (await store.enqueue([holder]))[0].status is EnqueueStatus.INSERTED
    await store.settle([done(lease)])
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        rows = await (await connection.execute("SELECT job_id::text, until FROM goqueue.job_key")).fetchall()
    assert rows == [(holder.id, None)]


async def test_a_job_is_kept_to_the_end_of_its_last_day(make_store: MakeStore, database_url: str) -> None:
    store = await make_store(completed_retention_s=86_400.0)
    lease = await run(store, await register(store))
    before = datetime.now(UTC)
    await store.settle([done(lease)])
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        (row,) = await (await connection.execute("SELECT expires_on FROM goqueue.job_history")).fetchall()
    assert row[0] >= (before + timedelta(days=2)).date()


# -- extend --------------------------------------------------------------------------------------------


async def test_a_later_beat_says_what_is_new(make_store: MakeStore) -> None:
    store = await make_store()
    worker_id = await register(store)
    info = WorkerInfo(id=worker_id, queues=("a", "b"), kinds=("x",), concurrency=3)
    await store.extend(Beat(worker=info, ttl_s=60, running=2, idle=True, draining=True))
    (record,) = await store.workers("default")
    assert (record.queues, record.kinds, record.concurrency) == (("a", "b"), ("x",), 3)
    assert (record.running, record.idle, record.draining) == (2, True, True)


async def test_a_beat_under_an_old_fence_of_the_same_worker(make_store: MakeStore) -> None:
    store = await make_store()
    worker_id = await register(store)
    old = await run(store, worker_id)
    await store.settle([outcome(old, Retry(0.0, FAILED))])
    (new,) = await claim(store, worker_id)
    held = Held(old.ref, old.fence, b'{"by":"old"}')
    beaten = await store.extend(Beat(worker=WorkerInfo(id=worker_id), ttl_s=60, held=(held,)))
    assert beaten.lost == (new.ref,)
    (record,) = await store.get("default", [new.id])
    assert record is not None
    assert record.progress is None


async def test_a_beat_passes_over_a_locked_job(make_store: MakeStore, database_url: str) -> None:
    store = await make_store()
    worker_id = await register(store)
    lease = await run(store, worker_id)
    held = Held(lease.ref, lease.fence, b"1")
    async with locked(database_url, "job", "id", lease.id):
        beaten = await store.extend(Beat(worker=WorkerInfo(id=worker_id), ttl_s=60, held=(held,)))
    assert beaten.lost == ()
    assert beaten.unkept == (lease.ref,)


async def test_a_beat_tells_only_what_was_not_kept(make_store: MakeStore) -> None:
    store = await make_store()
    worker_id = await register(store)
    lease = await run(store, worker_id)
    held = Held(lease.ref, lease.fence, b"1", (NewLog(1, "info", "one"),))
    beaten = await store.extend(Beat(worker=WorkerInfo(id=worker_id), ttl_s=60, held=(held,)))
    assert beaten.unkept == ()


async def test_what_a_beat_brought_goes_with_the_outcome_too(make_store: MakeStore) -> None:
    store = await make_store()
    worker_id = await register(store)
    lease = await run(store, worker_id)
    held = Held(lease.ref, lease.fence, b'"beaten"')
    await store.extend(Beat(worker=WorkerInfo(id=worker_id), ttl_s=60, held=(held,)))
    note = Note(logs=(NewLog(1, "info", "one"),))
    await store.settle([Settlement(lease.ref, lease.fence, Complete(), note)])
    (record,) = await store.get("default", [lease.id])
    assert record is not None
    assert (bytes(record.progress or b""), [log.message for log in record.logs]) == (b'"beaten"', ["one"])


async def test_a_note_passes_over_a_locked_job_and_its_outcome_waits_for_it(
    make_store: MakeStore, database_url: str
) -> None:
    """Else the outcome could be written a moment later, when the lock has gone, and its last words be lost."""
    store = await make_store()
    worker_id = await register(store)
    lease, other = await run(store, worker_id), await run(store, worker_id)
    settlements = [
        Settlement(one.ref, one.fence, Complete(), Note(b"1", (NewLog(1, "info", "one"),))) for one in (lease, other)
    ]
    async with locked(database_url, "job", "id", lease.id):
        assert await store.settle(settlements) == [Answer.BUSY, Answer.APPLIED]
    assert await store.settle(settlements) == [Answer.APPLIED, Answer.ALREADY]
    for record in await store.get("default", [lease.id, other.id]):
        assert record is not None
        assert [log.message for log in record.logs] == ["one"]


async def test_strays_are_bounded(make_store: MakeStore, database_url: str) -> None:
    store = await make_store()
    worker_id = await register(store)
    await store.enqueue([job() for _ in range(3)])
    await claim(store, worker_id)
    assert len(await statement(database_url, "extend_held", [worker_id, [], [], [], 2, [], None])) == 2


async def test_the_fate_of_a_lease_waits_for_the_jobs_of_its_handler(make_store: MakeStore, database_url: str) -> None:
    store = await make_store()
    lease = await run(store, await register(store))
    async with await psycopg.AsyncConnection.connect(database_url) as other:
        await store.enqueue_in(other, [job(unique=Unique(key="k"))])
        child = job(unique=Unique(key="k"))
        enqueueing = asyncio.create_task(store.enqueue_by([child], lease.ref, lease.fence))
        assert await waits(database_url, enqueueing, "transactionid")
        assert await store.settle([done(lease)]) == [Answer.BUSY]
        await other.rollback()
    assert (await enqueueing)[0].status is EnqueueStatus.INSERTED
    assert await store.settle([done(lease)]) == [Answer.APPLIED]


# -- sweeps --------------------------------------------------------------------------------------------


async def test_idle_workers_hide_no_orphans(make_store: MakeStore, database_url: str) -> None:
    """A sweep looks at so many workers at a time, those first that have been gone for longest."""
    store = await make_store()
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        await connection.execute(
            "INSERT INTO goqueue.worker (id, tenant, started_at, beat_at, expires_at, pid, concurrency, running, idle, "
            "draining, name, host, version, queues, kinds) SELECT gen_random_uuid(), 'default', now(), now(), "
            "now() - interval '1 hour', 1, 1, 0, true, false, '', '', '', '{}', '{}' FROM generate_series(1, 150)"
        )
    worker_id = await register(store)
    await run(store, worker_id)
    await store.extend(Beat(worker=WorkerInfo(id=worker_id), ttl_s=0))
    assert (await store.sweep(Duty.ORPHANS, 100)).count == 1


async def test_a_worker_that_is_beating_is_left_alone(make_store: MakeStore, database_url: str) -> None:
    store = await make_store()
    worker_id = await register(store)
    await run(store, worker_id)
    await store.extend(Beat(worker=WorkerInfo(id=worker_id), ttl_s=0))
    async with locked(database_url, "worker", "id", worker_id):
        assert (await store.sweep(Duty.ORPHANS, 100)).count == 0
    assert (await store.sweep(Duty.ORPHANS, 100)).count == 1


async def test_a_sweep_keeps_to_its_limit_over_workers(make_store: MakeStore) -> None:
    store = await make_store()
    workers = [await register(store) for _ in range(2)]
    for worker_id in workers:
        await store.enqueue([job() for _ in range(2)])
        assert len(await claim(store, worker_id)) == 2
    for worker_id in workers:
        await store.extend(Beat(worker=WorkerInfo(id=worker_id), ttl_s=0))
    assert [(await store.sweep(Duty.ORPHANS, 3)).count for _ in range(3)] == [3, 1, 0]


async def test_waiting_jobs_hide_no_orphan_of_a_missing_worker(make_store: MakeStore, database_url: str) -> None:
    store = await make_store()
    await store.enqueue([job(delay_s=3600.0) for _ in range(5)])
    await run(store, await register(store))
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        await connection.execute("DELETE FROM goqueue.worker")
    assert (await store.sweep(Duty.ORPHANS_FULL, 2)).count == 1


async def test_an_expiry_sweep_looks_only_at_what_has_expired(make_store: MakeStore) -> None:
    store = await make_store()
    await store.enqueue([job(deadline_s=3600.0) for _ in range(3)])
    swept = await store.sweep(Duty.EXPIRED, 2)
    assert (swept.count, swept.more) == (0, False)


async def test_a_full_sweep_goes_on_without_a_bad_job(make_store: MakeStore, database_url: str) -> None:
    store = await make_store()
    worker_id = await register(store)
    await store.enqueue([job() for _ in range(3)])
    leases = await claim(store, worker_id)
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        bad = f"ALTER TABLE goqueue.job ADD CONSTRAINT bad CHECK (id <> '{leases[1].id}' OR state = 1) NOT VALID"
        await connection.execute(bad.encode())
        await connection.execute("DELETE FROM goqueue.worker")
    assert (await store.sweep(Duty.ORPHANS_FULL, 100)).count == 2


DUTIES = [Duty.ORPHANS_FULL, Duty.EXPIRED, Duty.WORKERS, Duty.HISTORY]
"""The sweeps beside that of orphans, which has its own cases."""


async def _rows_to_sweep(store: PostgresStore, url: str, duty: Duty) -> list[tuple[str, str, str]]:
    """Make three rows that a sweep takes (of both kinds, where there are two): table, column and value of each."""
    if duty is Duty.ORPHANS_FULL:
        jobs = [job() for _ in range(3)]
        await store.enqueue(jobs)
        await claim(store, await register(store))
        async with await psycopg.AsyncConnection.connect(url) as connection:
            await connection.execute("DELETE FROM goqueue.worker")
        return [("job", "id", j.id) for j in jobs]
    if duty is Duty.EXPIRED:
        jobs = [job(deadline_s=1.0) for _ in range(3)]
        await store.enqueue(jobs)
        store.time_travel(60)
        return [("job", "id", j.id) for j in jobs]
    if duty is Duty.WORKERS:
        gone = [("worker", "id", await register(store, ttl_s=0)) for _ in range(3)]
        store.time_travel(2 * WORKER_KEPT_S)
        return gone
    rows = [("record", "name", f"r{n}") for n in range(3)]
    for _, _, name in rows:
        await store.write(name, b"1", 0, ttl_s=1.0)
    for n in range(3):
        unique = Unique(key=f"k{n}", final_states=(JobState.COMPLETED,), window_s=1.0)
        lease = await run(store, await register(store), unique=unique)
        await store.settle([done(lease)])
        rows.append(("job_key", "job_id", lease.id))
    store.time_travel(60)
    return rows


@pytest.mark.parametrize("duty", DUTIES)
async def test_sweeps_pass_over_locked_rows(make_store: MakeStore, database_url: str, duty: Duty) -> None:
    store = await make_store()
    rows = await _rows_to_sweep(store, database_url, duty)
    async with locked(database_url, *rows[0]), locked(database_url, *rows[-1]):
        assert (await store.sweep(duty, 100)).count == len(rows) - 2
    assert (await store.sweep(duty, 100)).count == 2


@pytest.mark.parametrize("duty", DUTIES)
async def test_sweeps_keep_to_their_limit(make_store: MakeStore, database_url: str, duty: Duty) -> None:
    store = await make_store()
    kinds = len({table for table, _, _ in await _rows_to_sweep(store, database_url, duty)})
    first = await store.sweep(duty, 2)
    assert (first.count, first.more) == (2 * kinds, True)
    assert (await store.sweep(duty, 2)).count == kinds


async def test_sweeps_keep_the_last_errors_only(make_store: MakeStore) -> None:
    store = await make_store(crash_delay_s=0.0)
    worker_id = await register(store)
    await store.enqueue([job(max_attempts=100, max_crashes=100, deadline_s=3600.0)])
    for _ in range(ERRORS_MAX):
        (lease,) = await claim(store, worker_id)
        await store.settle([outcome(lease, Retry(0.0, FAILED))])
    (lease,) = await claim(store, worker_id)
    await store.extend(Beat(worker=WorkerInfo(id=worker_id), ttl_s=0))
    for duty, last in ((Duty.ORPHANS, "WorkerCrashed"), (Duty.EXPIRED, "DeadlineExceeded")):
        assert (await store.sweep(duty, 100)).count == 1
        (record,) = await store.get("default", [lease.id])
        assert record is not None
        assert (len(record.errors), record.errors[-1].type) == (ERRORS_MAX, last)
        store.time_travel(7200)


async def test_keys_and_records_are_held_their_time_and_go_under_the_present_term(
    make_store: MakeStore, database_url: str
) -> None:
    store = await make_store()
    unique = Unique(key="k", final_states=(JobState.COMPLETED,), window_s=600.0)
    await store.settle([done(await run(store, await register(store), unique=unique))])

    async def held() -> int:
        async with await psycopg.AsyncConnection.connect(database_url) as connection:
            return (await connection.execute("SELECT FROM goqueue.job_key")).rowcount

    await store.write("r", b"1", 0, ttl_s=600.0)
    await store.sweep(Duty.HISTORY, 100)
    assert await held() == 1
    assert await store.read("r") is not None
    store.time_travel(700)
    old = await store.elect("upkeep", "a", 60)
    await store.elect("upkeep", "a", 0)
    new = await store.elect("upkeep", "b", 60)
    assert (await store.sweep(Duty.HISTORY, 100, old)).deposed
    assert await held() == 1
    await store.sweep(Duty.HISTORY, 100, new)
    assert await held() == 0


async def test_a_resign_of_another_is_nothing(make_store: MakeStore) -> None:
    store = await make_store()
    term = await store.elect("upkeep", "a", 60)
    await store.elect("upkeep", "b", 0)
    assert await store.elect("upkeep", "c", 60) is None
    assert not (await store.sweep(Duty.WORKERS, 100, term)).deposed


# -- claim ---------------------------------------------------------------------------------------------


async def test_a_claim_takes_groups_in_their_lanes(make_store: MakeStore) -> None:
    store = await make_store()
    worker_id = await register(store)
    second, first = [job(group_key="b") for _ in range(2)], [job(group_key="a") for _ in range(2)]
    await store.enqueue(second)
    await store.enqueue(first)
    assert [lease.id for lease in await claim(store, worker_id, 2)] == [j.id for j in first]
    assert [lease.id for lease in await claim(store, worker_id, 2)] == [j.id for j in second]


async def test_a_tenants_own_jobs_of_the_wanted_queues_only(make_store: MakeStore) -> None:
    store = await make_store()
    worker_id = await register(store)
    for tenant, queue in (("other", "default"), ("default", "aside"), ("default", "default")):
        await store.enqueue([job(tenant=tenant, queue=queue) for _ in range(2)])
    leases = await claim(store, worker_id)
    assert [(lease.tenant, lease.queue) for lease in leases] == [("default", "default")] * 2


async def test_a_claim_takes_what_is_due_and_earliest(make_store: MakeStore) -> None:
    store = await make_store()
    worker_id = await register(store)
    jobs = [job(), job(), job(delay_s=3600.0)]
    for one_job in jobs:
        await store.enqueue([one_job])
    assert [lease.id for lease in await claim(store, worker_id, 1)] == [jobs[0].id]
    assert [lease.id for lease in await claim(store, worker_id, 10)] == [jobs[1].id]


async def test_no_more_is_claimed_than_wanted_over_lanes(make_store: MakeStore) -> None:
    store = await make_store()
    worker_id = await register(store)
    await store.enqueue([job(queue=queue) for queue in ("a", "b", "c") for _ in range(2)])
    assert len(await claim(store, worker_id, 3, "a", "b", "c")) == 3


async def test_a_claim_passes_over_a_locked_job(make_store: MakeStore, database_url: str) -> None:
    store = await make_store()
    worker_id = await register(store)
    jobs = [job() for _ in range(3)]
    await store.enqueue(jobs)
    async with locked(database_url, "job", "id", jobs[0].id):
        assert [lease.id for lease in await claim(store, worker_id)] == [j.id for j in jobs[1:]]


async def test_a_worker_that_never_beat_beside_one_that_did_gets_nothing(make_store: MakeStore) -> None:
    store = await make_store()
    await register(store)
    await store.enqueue([job()])
    assert await claim(store, new_id()) == []


async def _claim_in(connection: psycopg.AsyncConnection[Any], worker_id: str, priority: int) -> int:
    """Claim, in a transaction that stays open, from a lane that was looked up long ago; how many jobs were leased."""
    lane = [["default"], [priority], [""], ["-infinity"], ["00000000-0000-0000-0000-000000000000"]]
    cursor = psycopg.AsyncRawCursor(connection)
    await cursor.execute(query("claim_only"), [None, worker_id, "default", *lane, 10])
    return cursor.rowcount


async def test_a_pause_waits_for_a_claim_in_flight(make_store: MakeStore, database_url: str) -> None:
    store = await make_store()
    worker_id = await register(store)
    waiting = job()
    await store.enqueue([waiting])
    async with await psycopg.AsyncConnection.connect(database_url) as other:
        assert await _claim_in(other, worker_id, waiting.priority) == 1
        pausing = asyncio.create_task(store.pause("default", "default", paused=True))
        assert await waits(database_url, pausing, "relation"), "answered although a claim might still begin"
        await other.rollback()
    await pausing


async def test_a_pause_that_comes_after_the_look_at_the_lanes_counts(make_store: MakeStore, database_url: str) -> None:
    store = await make_store()
    worker_id = await register(store)
    waiting = job()
    await store.enqueue([waiting])
    async with await psycopg.AsyncConnection.connect(database_url) as other:
        assert await _claim_in(other, worker_id, waiting.priority) == 1
        await other.rollback()
        await store.pause("default", "default", paused=True)
        assert await _claim_in(other, worker_id, waiting.priority) == 0


# -- changes -------------------------------------------------------------------------------------------


async def test_deleting_an_old_job_frees_only_its_own_key(make_store: MakeStore, database_url: str) -> None:
    store = await make_store()
    worker_id = await register(store)
    old = await run(store, worker_id, unique=Unique(key="k"))
    await store.settle([outcome(old, Dead(FAILED))])
    holder = job(unique=Unique(key="k"))
    await store.enqueue([holder])
    assert (await store.change(one(old.id), DeleteJobs()))[0].status is ChangeStatus.CHANGED
    assert (await store.enqueue([job(unique=Unique(key="k"))]))[0].ref.id == holder.id


async def test_a_delete_passes_over_a_locked_job(make_store: MakeStore, database_url: str) -> None:
    store = await make_store()
    waiting = job()
    await store.enqueue([waiting])
    async with locked(database_url, "job", "id", waiting.id):
        assert (await store.change(one(waiting.id), DeleteJobs()))[0].status is ChangeStatus.BUSY


async def test_a_retry_passes_over_locked_jobs(make_store: MakeStore, database_url: str) -> None:
    store = await make_store()
    lease = await run(store, await register(store))
    await store.settle([outcome(lease, Dead(FAILED))])
    waiting = job(delay_s=3600.0)
    await store.enqueue([waiting])
    for table, id in (("job", waiting.id), ("job_history", lease.id)):
        async with locked(database_url, table, "id", id):
            assert (await store.change(one(id), RetryJobs()))[0].status is not ChangeStatus.CHANGED


async def test_a_retry_moves_no_waiting_job_of_another_tenant(make_store: MakeStore) -> None:
    store = await make_store()
    foreign = job(tenant="acme", delay_s=3600.0)
    await store.enqueue([foreign])
    before = await store.get("acme", [foreign.id])
    assert (await store.change(one(foreign.id), RetryJobs()))[0].status is ChangeStatus.NOT_FOUND
    assert await store.get("acme", [foreign.id]) == before


def _retry(lease: Lease) -> list[object]:
    ids = [lease.id]
    return [None, "default", ids, "-infinity", None, ids, 0.0, 0.0, None]


async def test_a_retry_as_one_statement_passes_over_a_locked_job(make_store: MakeStore, database_url: str) -> None:
    """It would be given up soon, and asked for again: but it should not have to be."""
    store = await make_store()
    lease = await run(store, await register(store))
    await store.settle([outcome(lease, Dead(FAILED))])
    async with locked(database_url, "job_history", "id", lease.id):
        assert await statement(database_url, "retry_history", _retry(lease)) == []


async def test_a_retry_waits_for_a_key_not_long(make_store: MakeStore, database_url: str) -> None:
    store = await make_store()
    lease = await run(store, await register(store), unique=Unique(key="k"))
    await store.settle([outcome(lease, Dead(FAILED))])
    async with await psycopg.AsyncConnection.connect(database_url) as other:
        await store.enqueue_in(other, [job(unique=Unique(key="k"))])
        async with asyncio.timeout(SOON_S):
            with pytest.raises(psycopg.errors.LockNotAvailable):
                await statement(database_url, "retry_history", _retry(lease))
        await other.rollback()


async def test_a_final_job_takes_a_key_whose_hold_ran_out(make_store: MakeStore) -> None:
    store = await make_store()
    worker_id = await register(store)
    lease = await run(store, worker_id, unique=Unique(key="k"))
    await store.settle([outcome(lease, Dead(FAILED))])
    unique = Unique(key="k", final_states=(JobState.COMPLETED,), window_s=600.0)
    await store.settle([done(await run(store, worker_id, unique=unique))])
    assert (await store.change(one(lease.id), RetryJobs()))[0].status is ChangeStatus.KEY_HELD
    store.time_travel(700)
    assert (await store.change(one(lease.id), RetryJobs()))[0].status is ChangeStatus.CHANGED


async def test_a_running_job_is_not_due_again_when_a_clock_goes_back(make_store: MakeStore) -> None:
    store, ahead = await make_store(), await make_store()
    ahead.time_travel(3600)
    lease = await run(ahead, await register(ahead, ttl_s=7200))
    assert (await store.change(one(lease.id), RetryJobs()))[0].status is not ChangeStatus.CHANGED


# -- enqueue -------------------------------------------------------------------------------------------


async def test_a_job_with_limits_is_stored_once(make_store: MakeStore) -> None:
    store = await make_store()
    limited = job(deadline_s=60.0)
    statuses = [(await store.enqueue([limited], retry=True))[0].status for _ in range(2)]
    assert statuses == [EnqueueStatus.INSERTED, EnqueueStatus.EXISTS]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"deadline_s": 60.0},
        {"unique": Unique(key="k")},
        {"unique": Unique(key="r", on_conflict=OnConflict.REPLACE)},
    ],
    ids=["plain", "limited", "keyed", "replace"],
)
async def test_nothing_is_due_before_it_is_stored(make_store: MakeStore, options: dict[str, Any]) -> None:
    store = await make_store()
    past = datetime.now(UTC) - timedelta(days=1)
    jobs: list[NewJob[object]] = [job(run_at=past, **options) for _ in range(2)]
    answers = await store.enqueue(jobs)
    if "unique" in options:
        answers += await store.enqueue([job(run_at=past, **options)])
    records = await store.get("default", [answer.ref.id for answer in answers])
    assert [r for r in records if r is None or r.run_at < r.created_at] == []


async def test_keys_are_taken_in_one_order(make_store: MakeStore, database_url: str) -> None:
    """Whatever the order of the jobs: so who waits for a key holds none that comes after it."""
    store = await make_store()
    jobs = sorted((job(unique=Unique(key=key)) for key in "abcd"), key=lambda j: j.unique.digest if j.unique else b"")
    async with await psycopg.AsyncConnection.connect(database_url) as first:
        await store.enqueue_in(first, [msgspec.structs.replace(jobs[0], id=new_id())])
        enqueueing = asyncio.create_task(store.enqueue(jobs[::-1]))
        assert await waits(database_url, enqueueing, "transactionid")
        async with await psycopg.AsyncConnection.connect(database_url) as second, asyncio.timeout(SOON_S):
            later = msgspec.structs.replace(jobs[-1], id=new_id())
            assert (await store.enqueue_in(second, [later]))[0].status is EnqueueStatus.INSERTED
            await second.rollback()
        await first.rollback()
    assert {answer.status for answer in await enqueueing} == {EnqueueStatus.INSERTED}


async def test_no_statement_frees_or_replaces_what_changed_in_between(make_store: MakeStore, database_url: str) -> None:
    """Who holds a key is asked first: by the time of the write, another may hold it, or the holder may have started."""
    store = await make_store()
    worker_id = await register(store)
    unique = Unique(key="k", until_started=True)
    lease = await run(store, worker_id, unique=unique)
    await store.settle([outcome(lease, Retry(3600.0, FAILED))])
    holder = job(unique=unique)
    await store.enqueue([holder])

    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        ((key,),) = await (await connection.execute("SELECT key FROM goqueue.job_key")).fetchall()
    await statement(database_url, "enqueue_expire_keys", [None, ["default"], ["default"], [key]])
    assert (await store.enqueue([job(unique=unique)]))[0].ref.id == holder.id

    renewed = [None, 0.0, 0, "k", "{}", 9, 9, None, None, None, "", None, None, None, False]
    assert await statement(database_url, "enqueue_replace", [None, lease.id, key, *renewed]) == []
    assert await statement(database_url, "enqueue_replace", [None, holder.id, b"x" * 32, *renewed]) == []
    assert await statement(database_url, "enqueue_replace", [None, holder.id, key, *renewed]) == [(holder.id,)]
    assert await store.settle([outcome(lease, Complete())]) == [Answer.ALREADY]
