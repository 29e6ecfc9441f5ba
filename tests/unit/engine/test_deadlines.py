"""Limits of time of a job: to its start, and to its end; and for how long it is tried."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from goqueue.engine.worker import Worker
from goqueue.model.job import NewJob
from goqueue.model.lease import Lease
from goqueue.model.outcome import Complete
from goqueue.model.state import JobState
from goqueue.store.memory.clock import Clock
from goqueue.store.memory.core import Memory
from goqueue.store.memory.store import MemoryStore
from goqueue.tasks.app import GoQueue
from goqueue.tasks.context import Context
from goqueue.tasks.retry import RetryPolicy
from goqueue.tasks.signals import RetryJob
from tests.unit.engine.faults import DEADLINE_S, FaultyStore, Latch, quick
from tests.unit.engine.test_worker import working


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> FaultyStore:
    return FaultyStore(MemoryStore(Memory(clock=clock)))


@pytest.fixture
def app() -> GoQueue:
    return GoQueue(retry=RetryPolicy.fixed(3600.0))


@pytest.mark.parametrize("which,reason", [("schedule_to_start_s", "expired"), ("deadline_s", "deadline")])
@pytest.mark.parametrize("in_thread", [False, True])
async def test_a_job_whose_time_is_over_when_its_turn_comes_does_not_run(
    store: FaultyStore, app: GoQueue, clock: Clock, in_thread: bool, which: str, reason: str
) -> None:
    ran: list[int] = []

    @app.task(kind="late")
    async def late(n: int) -> None:
        ran.append(n)

    @app.task(kind="late_in_thread")
    def late_in_thread(n: int) -> None:
        ran.append(n)

    task = late_in_thread if in_thread else late
    limits = {which: 5.0}
    ids = await store.enqueue(task.job(1).options(**limits), task.job(2))  # type: ignore[arg-type] # two floats
    clock.advance(6.0)
    async with asyncio.timeout(DEADLINE_S):
        await Worker(app, store, quick()).run_until_idle()
    dead, fine = await store.jobs(ids)
    assert (dead.state, dead.reason, dead.attempt, dead.errors[0].type) == (
        JobState.DEAD,
        reason,
        1,
        "DeadlineExceeded",
    )
    assert (fine.state, ran) == (JobState.COMPLETED, [2])


@pytest.mark.parametrize("in_thread", [False, True])
async def test_the_time_that_a_lease_waits_for_its_slot_counts(
    store: FaultyStore, app: GoQueue, in_thread: bool
) -> None:
    latch, ran = Latch(), []

    @app.task
    async def hold() -> None:
        await latch.pass_through()

    @app.task(kind="brief", schedule_to_start_s=0.5)
    async def brief() -> None:
        ran.append(1)

    @app.task(kind="brief_in_thread", schedule_to_start_s=0.5)
    def brief_in_thread() -> None:
        ran.append(1)

    ids = await store.enqueue(hold.job(), (brief_in_thread if in_thread else brief).job())
    async with working(Worker(app, store, quick(concurrency=1, prefetch=1))):
        await store.until(lambda: len(store.leases) == 2)
        (lease,) = [lease for lease in store.leases if lease.start_in_s is not None]
        assert 0.0 < (lease.start_in_s or 0.0) <= 0.5
        await asyncio.sleep(0.6)  # that time passes is the point
        latch.end.set()
        await store.until(lambda: len(store.settled) == 2)
    _, dead = await store.jobs(ids)
    assert (dead.state, dead.reason, ran) == (JobState.DEAD, "expired", [])


async def test_a_running_job_is_interrupted_at_its_total_deadline(store: FaultyStore, app: GoQueue) -> None:
    @app.task(deadline_s=0.3, timeout_s=60)
    async def endless() -> None:
        await asyncio.Event().wait()

    @app.task(deadline_s=0.3)
    def polite(ctx: Context[object]) -> str:
        return "stopped" if ctx.wait(DEADLINE_S) else "never"

    @app.task(deadline_s=7200, timeout_s=0.2)
    async def sooner() -> None:
        await asyncio.Event().wait()

    ids = await store.enqueue(endless.job(), polite.job(), sooner.job())
    async with asyncio.timeout(DEADLINE_S):
        await Worker(app, store, quick()).run_until_idle()
    *dead, retrying = await store.jobs(ids)
    for job in dead:
        assert (job.state, job.reason, job.result) == (JobState.DEAD, "deadline", None)
        assert job.errors[0].type == "DeadlineExceeded"
    assert "in endless" in dead[0].errors[0].traceback
    assert (retrying.state, retrying.errors[0].type) == (JobState.RETRYING, "TimeoutError")


async def test_a_retry_that_would_start_after_the_deadline_is_the_end(store: FaultyStore, app: GoQueue) -> None:
    @app.task(deadline_s=30)
    async def fail(delay_s: float) -> None:
        raise RetryJob(delay_s)

    ids = await store.enqueue(fail.job(29.0), fail.job(31.0))
    async with asyncio.timeout(DEADLINE_S):
        await Worker(app, store, quick()).run_until_idle()
    again, dead = await store.jobs(ids)
    assert (again.state, dead.state, dead.reason) == (JobState.RETRYING, JobState.DEAD, "deadline")


async def test_a_job_is_tried_for_so_long_from_its_first_attempt(
    store: FaultyStore, app: GoQueue, clock: Clock
) -> None:
    @app.task(retry=RetryPolicy.fixed(10.0, retry_for_s=25.0))
    async def fail() -> None:
        raise ValueError("no")

    ids = await store.enqueue(fail.job().options(delay_s=3600.0))
    states = []
    clock.advance(3601.0)
    for _ in range(3):
        async with asyncio.timeout(DEADLINE_S):
            await Worker(app, store, quick()).run_until_idle()
        (job,) = await store.jobs(ids)
        states.append(job.state)
        clock.advance(10.5)
    assert states == [JobState.RETRYING, JobState.RETRYING, JobState.DEAD]
    assert (job.attempt, job.reason, job.errors[-1].type) == (3, "retry_for", "ValueError")


async def test_the_numbers_of_a_job_go_with_it(store: FaultyStore, app: GoQueue) -> None:
    @app.task(retry=RetryPolicy.fixed(100.0, no_retry_on=(LookupError,)).on(OSError, RetryPolicy.fixed(200.0)))
    async def fail(how: str) -> None:
        raise {"value": ValueError, "os": ConnectionError, "key": KeyError}[how]("no")

    own = RetryPolicy.fixed(300.0)
    ids = await store.enqueue(fail.job("value"), *(fail.job(how).options(retry=own) for how in ("value", "os", "key")))
    async with asyncio.timeout(DEADLINE_S):
        await Worker(app, store, quick()).run_until_idle()
    delays = [getattr(s.outcome, "delay_s", None) for s in sorted(store.settled, key=lambda s: ids.index(s.ref.id))]
    assert delays == [100.0, 300.0, 200.0, None]


# -- what the journal is told -----------------------------------------------------------------------


class Journal:
    """Notes who has started and who has ended."""

    def __init__(self) -> None:
        self.open: dict[int, str] = {}
        self.kinds: list[str] = []

    def start(self, lease: Lease, /) -> int:
        slot = len(self.kinds)
        self.kinds.append(lease.kind)
        self.open[slot] = lease.id
        return slot

    def end(self, slot: int) -> None:
        del self.open[slot]

    def alive(self, busy_until: float) -> None: ...

    def close(self) -> None: ...


async def test_the_journal_knows_who_has_started_here(store: FaultyStore, app: GoQueue) -> None:
    latch, journal = Latch(), Journal()

    @app.task
    async def hold() -> None:
        await latch.pass_through()

    @app.task
    def plain() -> None:
        time.sleep(0)

    @app.task
    async def fail() -> None:
        raise ValueError("no")

    @app.task(schedule_to_start_s=0.01)
    async def late() -> None: ...

    @app.task(run_in="process")
    def elsewhere() -> None: ...

    (held,) = await store.enqueue(hold.job())
    worker = Worker(app, store, quick(concurrency=3), journal=journal)  # type: ignore[arg-type] # all that is used of it
    async with working(worker):
        await latch.until_started()
        assert list(journal.open.values()) == [held]
        await store.enqueue(plain.job(), fail.job(), elsewhere.job(), late.job().options(delay_s=0))
        store.memory.memory.clock.advance(1.0)
        await store.enqueue(NewJob(kind="unknown"))
        await store.until(lambda: len(store.settled) >= 5)
        assert list(journal.open.values()) == [held]
        latch.end.set()
        await store.until(lambda: sum(type(s.outcome) is Complete for s in store.settled) >= 2)
    assert journal.open == {}
    assert sorted(set(journal.kinds)) == ["fail", "hold", "plain"]


@pytest.mark.parametrize("limit", ["schedule_to_start_s", "deadline_s"])
async def test_a_limit_ends_what_waits_for_a_thread_when_it_comes(app: GoQueue, limit: str) -> None:
    """Not only when a thread becomes free, which may be hours later; and what starts in time is let be."""
    store, end, begun = FaultyStore(), threading.Event(), []

    @app.task
    def wait(number: int) -> None:
        begun.append(number)
        end.wait(DEADLINE_S)

    ids = await store.enqueue(wait.job(0).options(**{limit: 30.0}))  # type: ignore[arg-type] # a limit is a float
    ids += await store.enqueue(wait.job(1).options(**{limit: 0.3}))  # type: ignore[arg-type] # as above
    async with working(Worker(app, store, quick(concurrency=2, threads=1))):
        await store.until(lambda: len(store.settled) == 1)
        (dead,) = await store.jobs(ids[1:])
        assert (dead.state, dead.reason) == (JobState.DEAD, "deadline" if limit == "deadline_s" else "expired")
        end.set()
        await store.until(lambda: len(store.settled) == 2)
    assert begun == [0]
    assert [job.state for job in await store.jobs(ids[:1])] == [JobState.COMPLETED]
