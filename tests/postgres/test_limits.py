"""Races of what ends, starts or crashes by itself: expiry, keys until started, crashes, jobs that are not kept."""

from __future__ import annotations

import asyncio
import random

import psycopg
import pytest

from goqueue.model.admin import Duty
from goqueue.model.job import ErrorInfo, NewJob, OnConflict, Unique
from goqueue.model.lease import Beat, Lease, Signal, WorkerInfo
from goqueue.model.outcome import Answer, Complete, Crash, Retry, Settlement
from goqueue.model.query import CancelJobs, ChangeStatus, EnqueueStatus, RetryJobs, Selection
from goqueue.model.retry import RetryDelays
from goqueue.model.state import JobState
from goqueue.settings import Retention
from goqueue.store.postgres import PostgresStore
from tests.postgres.test_concurrency import MakeStore, claim, done, job, make_store, register

__all__ = ["make_store"]  # a fixture

AT_ONCE_S = 0.001
"""Over by the time that the enqueue is answered, or nearly: whoever sweeps is a second ahead."""
KILLED = ErrorInfo("WorkerCrashed", "killed by signal 9")
FAILED = ErrorInfo("ValueError", "no")


def crash(lease: Lease) -> Settlement:
    return Settlement(lease.ref, lease.fence, Crash(KILLED))


async def _until_started_race(store: PostgresStore, claimer: PostgresStore, rule: OnConflict) -> tuple[int, int]:
    """Enqueue and claim one key at the same time, for a while. How many jobs were made, and how many ran."""
    worker_id = await register(claimer)
    unique = Unique(key="k", until_started=True, on_conflict=rule)
    made: set[str] = set()
    ran: list[str] = []
    finished = asyncio.Event()

    async def enqueue(marks: range) -> None:
        for _ in marks:
            (answer,) = await store.enqueue([job(unique=unique)])
            if answer.status is EnqueueStatus.INSERTED:
                made.add(answer.ref.id)

    async def work() -> None:
        while not finished.is_set():
            leases = await claim(claimer, worker_id, 10)
            # Of the jobs that wait, no more than one has the key: so no claim gives two.
            assert len(leases) <= 1
            ran.extend(lease.id for lease in leases)
            await claimer.settle([done(lease) for lease in leases])

    working = asyncio.create_task(work())
    await asyncio.gather(*(enqueue(range(25)) for _ in range(6)))
    finished.set()
    await working
    ran.extend(lease.id for lease in await claim(claimer, worker_id, 10))
    assert sorted(made) == sorted(ran)
    return len(made), len(ran)


@pytest.mark.parametrize("rule", [OnConflict.RETURN, OnConflict.REPLACE])
async def test_a_key_until_started_is_held_by_one_waiting_job_at_most(make_store: MakeStore, rule: OnConflict) -> None:
    made, ran = await _until_started_race(await make_store(pool_max=8), await make_store(), rule)
    assert made == ran > 1


async def test_an_enqueue_after_the_start_is_never_swallowed(make_store: MakeStore) -> None:
    """What a caller enqueues after the claim was answered must run: the one that runs may not have seen it."""
    store, claimer = await make_store(), await make_store()
    worker_id = await register(claimer)
    for rule in (OnConflict.RETURN, OnConflict.REPLACE) * 10:
        unique = Unique(key="k", until_started=True, on_conflict=rule)
        await store.enqueue([job(unique=unique)])
        (lease,) = await claim(claimer, worker_id, 1)
        (answer,) = await store.enqueue([job(unique=unique)])
        assert answer.status is EnqueueStatus.INSERTED
        (second,) = await claim(claimer, worker_id, 1)
        assert await claimer.settle([done(lease), done(second)]) == [Answer.APPLIED] * 2


async def test_a_retry_of_a_job_that_lost_its_key_leaves_the_key_to_the_next(make_store: MakeStore) -> None:
    store = await make_store()
    worker_id = await register(store)
    unique = Unique(key="k", until_started=True, on_conflict=OnConflict.REPLACE)
    (first,) = await store.enqueue([job(unique=unique)])
    (lease,) = await claim(store, worker_id)
    assert await store.settle([Settlement(lease.ref, lease.fence, Retry(0.0, FAILED))]) == [Answer.APPLIED]
    # The first waits again without the key: the second takes it, and the third replaces the second.
    (second,) = await store.enqueue([job(unique=unique)])
    (third,) = await store.enqueue([job(unique=unique)])
    assert (second.status, third.status) == (EnqueueStatus.INSERTED, EnqueueStatus.REPLACED)
    assert third.ref == second.ref != first.ref
    again = await claim(store, worker_id)
    assert {lease.id for lease in again} == {first.ref.id, second.ref.id}


async def test_expiry_and_claim_of_a_job_have_one_winner(make_store: MakeStore) -> None:
    store, sweeper = await make_store(), await make_store()
    sweeper.time_travel(1)
    worker_id = await register(store)
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    for _ in range(15):
        jobs = [job(schedule_to_start_s=AT_ONCE_S, max_attempts=3) for _ in range(20)]
        await store.enqueue(jobs)
        claimed, swept = await asyncio.gather(
            claim(store, worker_id, rng.randrange(1, 30)), sweeper.sweep(Duty.EXPIRED, rng.randrange(1, 30))
        )
        records = await store.get("default", [j.id for j in jobs])
        running = {lease.id for lease in claimed}
        dead = [r for r in records if r and r.state is JobState.DEAD]
        assert len(dead) == swept.count, f"seed {seed}"
        assert not running & {r.id for r in dead}, f"seed {seed}"
        assert {(r.reason, r.errors[-1].type) for r in dead} <= {("expired", "DeadlineExceeded")}
        # A job that was started is the worker's to decide, however late it was.
        assert set(await store.settle([done(lease) for lease in claimed])) <= {Answer.APPLIED, Answer.BUSY}
        await store.settle([done(lease) for lease in claimed])
        assert all(lease.start_in_s is not None and lease.start_in_s <= AT_ONCE_S for lease in claimed)
        while (await sweeper.sweep(Duty.EXPIRED, 100)).count:
            pass


async def test_a_settle_of_a_job_that_expired_meanwhile_is_lost(make_store: MakeStore) -> None:
    """It was handed back and then swept: the fence has moved on."""
    store = await make_store()
    worker_id = await register(store)
    await store.enqueue([job(schedule_to_start_s=AT_ONCE_S)])
    (lease,) = await claim(store, worker_id)
    await store.settle([Settlement(lease.ref, lease.fence, Retry(0.0, FAILED))])
    store.time_travel(1)
    assert (await store.sweep(Duty.EXPIRED, 10)).count == 1
    assert await store.settle([done(lease)]) == [Answer.LOST]


async def test_a_crash_and_a_sweep_of_one_job_count_once(make_store: MakeStore) -> None:
    store, sweeper = await make_store(), await make_store()
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    for _ in range(10):
        worker_id = await register(store)
        jobs = [job() for _ in range(20)]
        await store.enqueue(jobs)
        leases = await claim(store, worker_id)
        await store.extend(Beat(worker=WorkerInfo(id=worker_id), ttl_s=0))
        answers, swept = await asyncio.gather(
            store.settle([crash(lease) for lease in leases]), sweeper.sweep(Duty.ORPHANS, rng.randrange(1, 30))
        )
        while (await sweeper.sweep(Duty.ORPHANS, 100)).count:
            pass
        records = await store.get("default", [lease.id for lease in leases])
        for lease, answer, record in zip(leases, answers, records, strict=True):
            assert record is not None
            assert (record.crashes, len(record.errors)) == (1, 1), f"seed {seed}"
            told = {Answer.APPLIED: "killed", Answer.LOST: "not heard of"}.get(answer)
            assert told is None or told in record.errors[0].message, f"seed {seed}"
            # Busy is asked for again, and then told from the fence.
            if answer is Answer.BUSY:
                assert await store.settle([crash(lease)]) == [Answer.LOST], f"seed {seed}"
        assert swept.count <= answers.count(Answer.LOST) + answers.count(Answer.BUSY)
        await store.change(Selection("default", tuple(j.id for j in jobs)), CancelJobs())


async def test_the_delay_after_a_crash_doubles(make_store: MakeStore) -> None:
    store = await make_store(crash_delay_s=8.0)
    await store.enqueue([job(max_crashes=10)])
    for crashes, by_sweep in ((1, False), (2, True), (3, False)):
        worker_id = await register(store)
        (lease,) = await claim(store, worker_id)
        if by_sweep:
            await store.extend(Beat(worker=WorkerInfo(id=worker_id), ttl_s=0))
            assert (await store.sweep(Duty.ORPHANS, 10)).count == 1
        else:
            assert await store.settle([crash(lease)]) == [Answer.APPLIED]
        (record,) = await store.get("default", [lease.id])
        assert record is not None
        assert record.crashes == crashes
        assert record.attempted_at is not None
        waits_s = (record.run_at - record.attempted_at).total_seconds()
        assert 8.0 * 2 ** (crashes - 1) <= waits_s < 8.0 * 2**crashes
        store.time_travel(waits_s)


async def test_a_job_that_is_not_kept_leaves_no_row_and_no_key(make_store: MakeStore, database_url: str) -> None:
    store = await make_store(completed_retention_s=0.0, queue_retention={"kept": Retention(completed_s=60.0)})
    worker_id = await register(store)
    keys = [
        Unique(key="plain"),
        Unique(key="final", final_states=(JobState.COMPLETED,)),
        Unique(key="window", final_states=(JobState.COMPLETED,), window_s=60.0),
    ]
    jobs = [job(unique=unique, queue=queue) for unique in keys for queue in ("default", "kept")]
    await store.enqueue(jobs)
    leases = await claim(store, worker_id, 10, "default", "kept")
    assert set(await store.settle([done(lease) for lease in leases])) == {Answer.APPLIED}
    gone = [j for j in jobs if j.queue == "default"]
    assert await store.get("default", [j.id for j in gone]) == [None] * 3
    assert all(await store.get("default", [j.id for j in jobs if j.queue == "kept"]))
    # Nothing tells any more that it was so.
    assert await store.settle([done(lease) for lease in leases if lease.queue == "default"]) == [Answer.LOST] * 3
    again = await store.enqueue([job(unique=unique) for unique in keys])
    assert [a.status for a in again] == [EnqueueStatus.INSERTED] * 2 + [EnqueueStatus.DUPLICATE]
    store.time_travel(61)
    assert (await store.enqueue([job(unique=keys[2])]))[0].status is EnqueueStatus.INSERTED
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SELECT count(*) FROM goqueue.job_history WHERE queue = 'default'").fetchone()
    assert row == (0,)


async def test_jobs_that_are_not_kept_have_one_holder_of_a_key_under_concurrency(make_store: MakeStore) -> None:
    store, claimer = await make_store(completed_retention_s=0.0), await make_store(completed_retention_s=0.0)
    worker_id = await register(claimer)
    finished = asyncio.Event()
    made = ran = 0

    async def enqueue() -> None:
        nonlocal made
        for _ in range(30):
            (answer,) = await store.enqueue([job(unique=Unique(key="k"))])
            made += answer.status is EnqueueStatus.INSERTED

    async def work() -> None:
        nonlocal ran
        while not finished.is_set():
            leases = await claim(claimer, worker_id, 10)
            assert len(leases) <= 1
            assert set(await claimer.settle([done(lease) for lease in leases])) <= {Answer.APPLIED}
            ran += len(leases)

    working = asyncio.create_task(work())
    await asyncio.gather(*(enqueue() for _ in range(4)))
    finished.set()
    await working
    ran += len(await claim(claimer, worker_id, 10))
    assert made == ran > 1


async def test_every_end_asks_for_the_retention_of_its_queue(make_store: MakeStore) -> None:
    """Settle, cancel, expiry and sweep, each in a queue that keeps nothing and in one that does."""
    none = Retention(completed_s=0.0, cancelled_s=0.0, dead_s=0.0)
    store = await make_store(queue_retention={"none": none}, crash_delay_s=0.0)
    for queue, kept in (("none", False), ("other", True)):
        worker_id = await register(store)
        jobs: list[NewJob[object]] = [
            job(queue=queue),
            job(queue=queue, max_crashes=1),
            job(queue=queue, max_crashes=1),
        ]
        await store.enqueue(jobs)
        leases = await claim(store, worker_id, 10, queue)
        await store.settle([done(leases[0]), crash(leases[1])])
        await store.extend(Beat(worker=WorkerInfo(id=worker_id), ttl_s=0))
        assert (await store.sweep(Duty.ORPHANS, 10)).count == 1
        late, unwanted = job(queue=queue, schedule_to_start_s=AT_ONCE_S), job(queue=queue)
        await store.enqueue([late, unwanted])
        store.time_travel(1)
        assert (await store.sweep(Duty.EXPIRED, 10)).count == 1
        await store.change(Selection("default", (unwanted.id,)), CancelJobs())
        records = await store.get("default", [j.id for j in (*jobs, late, unwanted)])
        assert [r is not None for r in records] == [kept] * 5


async def test_limits_that_an_older_worker_left_wrong_are_set_right(make_store: MakeStore, database_url: str) -> None:
    """It sets run_at and does not know of expire_at: a job that is not late must not be ended, nor stop the others."""
    store = await make_store()
    jobs = [job(schedule_to_start_s=60.0) for _ in range(3)]
    late = job(schedule_to_start_s=AT_ONCE_S)
    await store.enqueue([*jobs, late])
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE goqueue.job SET expire_at = now() - interval '1 hour' WHERE schedule_to_start_s > 1")
    store.time_travel(1)
    first = await store.sweep(Duty.EXPIRED, 3)
    assert (first.count, first.more) == (0, True)
    assert (await store.sweep(Duty.EXPIRED, 3)).count == 1
    records = await store.get("default", [j.id for j in (*jobs, late)])
    assert [r.state for r in records if r] == [JobState.READY] * 3 + [JobState.DEAD]
    store.time_travel(61)
    assert (await store.sweep(Duty.EXPIRED, 10)).count == 3


async def test_one_bad_job_does_not_stop_the_expiry_of_the_others(make_store: MakeStore, database_url: str) -> None:
    store = await make_store()
    jobs = [job(schedule_to_start_s=AT_ONCE_S) for _ in range(5)]
    await store.enqueue(jobs)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"ALTER TABLE goqueue.job_history ADD CONSTRAINT bad CHECK (id <> '{jobs[2].id}')")
    store.time_travel(1)
    assert (await store.sweep(Duty.EXPIRED, 100)).count == 4
    async with await psycopg.AsyncConnection.connect(database_url) as other:
        await other.execute("SELECT FROM goqueue.job WHERE id = %s FOR UPDATE", [jobs[2].id])
        await store.enqueue([job(schedule_to_start_s=AT_ONCE_S)])
        store.time_travel(1)
        async with asyncio.timeout(5):
            assert (await store.sweep(Duty.EXPIRED, 100)).count == 1


async def test_a_cancel_request_wakes_the_workers_of_its_tenant(make_store: MakeStore) -> None:
    store, other = await make_store(), await make_store()
    worker_id = await register(store)
    waiting, running = job(), job()
    await store.enqueue([running])
    await claim(store, worker_id)
    await store.enqueue([waiting])
    mine, theirs = store.signals("default", ("quiet",)), store.signals("another", ("quiet",))
    assert await anext(mine) == await anext(theirs) == Signal("")
    changed = await other.change(Selection("default", (waiting.id, running.id)), CancelJobs())
    assert [c.status for c in changed] == [ChangeStatus.CHANGED, ChangeStatus.REQUESTED]
    async with asyncio.timeout(5):
        assert await anext(mine) == Signal(cancels=True)
    more, not_mine = asyncio.ensure_future(anext(mine)), asyncio.ensure_future(anext(theirs))
    # Nobody is woken for what was requested before.
    changed = await other.change(Selection("default", (running.id,)), CancelJobs())
    assert changed[0].status is ChangeStatus.UNCHANGED
    heard, _ = await asyncio.wait([more, not_mine], timeout=0.3)
    assert not heard
    more.cancel()
    not_mine.cancel()


async def test_the_rare_fields_of_a_lease(make_store: MakeStore) -> None:
    store = await make_store()
    worker_id = await register(store)
    retry = RetryDelays(delays_s=(1.0, 2.0), retry_for_s=60.0)
    await store.enqueue([job(), job(retry=retry, schedule_to_start_s=60.0, deadline_s=100.0)])
    plain, rare = await claim(store, worker_id)
    assert (plain.tried_for_s, plain.start_in_s, plain.deadline_in_s, plain.retry) == (0.0, None, None, None)
    assert rare.retry == retry
    assert rare.tried_for_s == 0.0
    assert rare.start_in_s is not None
    assert rare.deadline_in_s is not None
    assert 0 < rare.start_in_s <= 60 < rare.deadline_in_s <= 100
    await store.settle([Settlement(lease.ref, lease.fence, Retry(0.0, FAILED)) for lease in (plain, rare)])
    store.time_travel(10)
    for lease in await claim(store, worker_id):
        assert 10 <= lease.tried_for_s < 60
        await store.settle([Settlement(lease.ref, lease.fence, Complete())])
    await store.change(Selection("default", (plain.id, rare.id)), RetryJobs())
    assert [lease.tried_for_s for lease in await claim(store, worker_id)] == [0.0, 0.0]
