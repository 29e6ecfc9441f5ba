"""The worker over a memory store with faults: what runs, what is refused, and what survives."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from goqueue.engine.ending import end
from goqueue.engine.worker import Worker
from goqueue.model.errors import (
    InvalidInput,
    LeaseLost,
    PermissionDenied,
    SchemaTooNew,
    SerializationConflict,
    StoreUnavailable,
)
from goqueue.model.job import NewJob
from goqueue.model.lease import Beat, Beaten
from goqueue.model.outcome import Answer, Complete, Dead, Release, Retry, Settlement, Snooze
from goqueue.model.query import CancelJobs, Selection
from goqueue.model.state import JobState
from goqueue.tasks.app import GoQueue
from goqueue.tasks.context import Context, in_handler
from goqueue.tasks.retry import RetryPolicy
from goqueue.tasks.signals import SnoozeJob
from tests.unit.engine.faults import DEADLINE_S, FaultyStore, Latch, quick

ERRORS: dict[str, BaseException] = {
    "MemoryError": MemoryError("full"),
    "RecursionError": RecursionError("deep"),
    "SystemExit": SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt(),
    "CancelledError": asyncio.CancelledError(),
    "StopIteration": StopIteration(),
    "GeneratorExit": GeneratorExit(),
}


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


@pytest.fixture
def app() -> GoQueue:
    return GoQueue(retry=RetryPolicy.fixed(3600.0))


@asynccontextmanager
async def working(worker: Worker) -> AsyncIterator[asyncio.Task[None]]:
    """A worker that runs meanwhile, and is stopped at the end."""
    async with asyncio.timeout(DEADLINE_S):
        running = asyncio.create_task(worker.run())
        try:
            yield running
        finally:
            worker.stop()
            worker.stop()
            await running


# -- what runs ------------------------------------------------------------------------------------


async def test_async_and_plain_handlers_run_and_their_results_are_kept(store: FaultyStore, app: GoQueue) -> None:
    @app.task
    async def add(a: int, b: int) -> int:
        await asyncio.sleep(0)
        return a + b

    @app.task
    def multiply(a: int, b: int) -> int:
        assert threading.current_thread() is not threading.main_thread()
        assert in_handler.get()
        return a * b

    ids = await store.enqueue(*(task.job(i, b=3) for i in range(100) for task in (add, multiply)))
    await Worker(app, store, quick()).run_until_idle()
    jobs = await store.jobs(ids)
    assert {job.state for job in jobs} == {JobState.COMPLETED}
    assert [bytes(job.result or b"") for job in jobs[:4]] == [b"3", b"0", b"4", b"3"]
    assert not in_handler.get()


async def test_never_more_than_concurrency_run_nor_more_than_prefetch_wait(store: FaultyStore, app: GoQueue) -> None:
    latch = Latch()

    @app.task
    async def wait() -> None:
        await latch.pass_through()

    await store.enqueue(*(wait.job() for _ in range(50)))
    worker = Worker(app, store, quick(concurrency=4, prefetch=3))
    async with working(worker):
        await latch.until_started(4)
        await store.until(lambda: len(store.leases) >= 7)
        await store.until(lambda: len(store.beats) >= 1)
        assert len(latch.started) == 4
        assert len(store.leases) == 7
        latch.end.set()
        await store.until(lambda: len(store.settled) == 50)


async def test_each_attempt_has_a_context_of_its_own(store: FaultyStore, app: GoQueue) -> None:
    variable = contextvars.ContextVar("variable", default="clean")
    seen = []

    @app.task
    async def leave_a_trace() -> None:
        seen.append(variable.get())
        variable.set("dirty")

    await store.enqueue(*(leave_a_trace.job() for _ in range(20)))
    await Worker(app, store, quick(concurrency=1)).run_until_idle()
    assert seen == ["clean"] * 20


async def test_asyncio_timeout_works_within_a_handler(store: FaultyStore, app: GoQueue) -> None:
    @app.task
    async def impatient() -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            return "in time"
        return "never"

    ids = await store.enqueue(impatient.job())
    await Worker(app, store, quick()).run_until_idle()
    assert [bytes(job.result or b"") for job in await store.jobs(ids)] == [b'"in time"']


async def test_the_context_knows_the_job_and_enqueues_under_its_lease(store: FaultyStore) -> None:
    @asynccontextmanager
    async def lifespan() -> AsyncIterator[object]:
        yield {"greeting": "hello"}

    app = GoQueue(lifespan=lifespan)
    told: list[object] = []

    @app.task
    async def child(name: str) -> None:
        told.append(name)

    @app.task
    async def parent(ctx: Context[dict[str, str]]) -> None:
        told.extend((ctx.state["greeting"], ctx.attempt, ctx.cancelled))
        await ctx.enqueue(child.job("from async"))

    @app.task
    def plain_parent(ctx: Context[dict[str, str]]) -> None:
        ctx.run(ctx.enqueue(child.job("from thread")))

    await store.enqueue(parent.job(), plain_parent.job())
    await Worker(app, store, quick()).run_until_idle()
    assert sorted(map(str, told)) == sorted(["hello", "1", "False", "from async", "from thread"])


async def test_progress_travels_with_a_beat(store: FaultyStore, app: GoQueue) -> None:
    latch = Latch()

    @app.task
    async def tell(ctx: Context[object]) -> None:
        ctx.progress({"done": 1})
        await latch.pass_through()

    await store.enqueue(tell.job())
    async with working(Worker(app, store, quick(beat_s=0.1, lease_s=3.0))):
        await store.until(lambda: any(held.progress == b'{"done":1}' for beat in store.beats for held in beat.held))
        sent = len(store.beats)
        await store.until(lambda: len(store.beats) > sent)
        assert [held.progress for held in store.beats[-1].held] == [None]
        latch.end.set()


# -- what fails -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(ERRORS))
@pytest.mark.parametrize("in_thread", [False, True])
async def test_whatever_a_handler_raises_is_one_failed_attempt(
    store: FaultyStore, app: GoQueue, name: str, in_thread: bool
) -> None:
    """FAULTS 8: and the slot is free for the next job."""

    @app.task(kind="fail")
    async def fail() -> None:
        raise ERRORS[name]

    @app.task(kind="fail_in_thread")
    def fail_in_thread() -> None:
        raise ERRORS[name]

    @app.task
    async def fine() -> None: ...

    @app.task
    def fine_in_thread() -> None: ...

    pair = (fail_in_thread, fine_in_thread) if in_thread else (fail, fine)
    ids = await store.enqueue(*(task.job() for task in pair))
    async with asyncio.timeout(DEADLINE_S):
        await Worker(app, store, quick(concurrency=1, prefetch=1, threads=1)).run_until_idle()
    failed, other = await store.jobs(ids)
    assert other.state is JobState.COMPLETED
    assert failed.state is JobState.RETRYING
    assert failed.attempt == 1
    (error,) = failed.errors
    assert name in error.type or (name == "StopIteration" and error.type == "RuntimeError")


async def test_arguments_that_do_not_fit_fail_with_a_typed_error(store: FaultyStore, app: GoQueue) -> None:
    """FAULTS 27."""

    @app.task(max_attempts=1)
    async def count(number: int) -> None: ...

    ids = await store.enqueue(NewJob(kind="count", args=b'{"renamed": 1}', max_attempts=1))
    ids += await store.enqueue(NewJob(kind="count", args=b'{"number": "x"}'), count.job(1))
    await Worker(app, store, quick()).run_until_idle()
    dead, retrying, fine = await store.jobs(ids)
    assert (dead.state, retrying.state, fine.state) == (JobState.DEAD, JobState.RETRYING, JobState.COMPLETED)
    assert "InvalidArguments" in dead.errors[0].type
    assert "InvalidArguments" in retrying.errors[0].type


async def test_an_unknown_kind_is_snoozed_and_spends_no_attempt(store: FaultyStore, app: GoQueue) -> None:
    """FAULTS 27."""
    ids = await store.enqueue(*(NewJob(kind="of another version") for _ in range(30)))
    await Worker(app, store, quick(unknown_kind_s=5.0)).run_until_idle()
    assert {job.attempt for job in await store.jobs(ids)} == {0}
    outcomes = [settlement.outcome for settlement in store.settled]
    assert all(isinstance(o, Snooze) and o.delay_s == 5.0 and "of another version" in o.reason for o in outcomes)


async def test_the_snooze_of_an_unknown_kind_grows_up_to_its_maximum(store: FaultyStore, app: GoQueue) -> None:
    await store.enqueue(NewJob(kind="unknown"))
    async with working(Worker(app, store, quick(unknown_kind_s=0.1, unknown_kind_max_s=0.3, poll_s=0.01))):
        await store.until(lambda: len(store.settled) >= 4)
    delays = [s.outcome.delay_s for s in store.settled if isinstance(s.outcome, Snooze)]
    assert delays[0] == 0.1
    assert delays == sorted(delays)
    assert max(delays) == 0.3


async def test_a_handler_can_snooze_itself(store: FaultyStore, app: GoQueue) -> None:
    @app.task
    async def later() -> None:
        raise SnoozeJob(60.0, "not yet")

    ids = await store.enqueue(later.job())
    await Worker(app, store, quick()).run_until_idle()
    (job,) = await store.jobs(ids)
    assert (job.state, job.attempt) == (JobState.SCHEDULED, 0)


# -- interruptions --------------------------------------------------------------------------------


async def test_a_timeout_counts_from_the_start_of_the_handler(store: FaultyStore, app: GoQueue) -> None:
    latch = Latch()

    @app.task
    async def hold() -> None:
        await latch.pass_through()

    @app.task(timeout_s=0.05)
    async def brief() -> None: ...

    ids = await store.enqueue(hold.job(), brief.job())
    async with working(Worker(app, store, quick(concurrency=1, prefetch=1))):
        await latch.until_started()
        await store.until(lambda: len(store.leases) == 2)
        await asyncio.sleep(0.1)  # longer than its timeout, and not started: that time passes is the point
        latch.end.set()
        await store.until(lambda: len(store.settled) == 2)
    assert {job.state for job in await store.jobs(ids)} == {JobState.COMPLETED}


async def test_a_timeout_interrupts_an_async_handler(store: FaultyStore, app: GoQueue) -> None:
    @app.task(timeout_s=0.05)
    async def endless() -> None:
        await asyncio.Event().wait()

    ids = await store.enqueue(endless.job())
    await Worker(app, store, quick()).run_until_idle()
    (job,) = await store.jobs(ids)
    assert job.state is JobState.RETRYING
    assert job.errors[0].type == "TimeoutError"
    assert "endless" in job.errors[0].traceback


async def test_a_plain_function_sees_its_timeout(store: FaultyStore, app: GoQueue) -> None:
    @app.task(timeout_s=0.05)
    def polite(ctx: Context[object]) -> str:
        until = time.monotonic() + DEADLINE_S
        while not ctx.cancelled and time.monotonic() < until:
            time.sleep(0.005)
        return "stopped"

    ids = await store.enqueue(polite.job())
    await Worker(app, store, quick()).run_until_idle()
    (job,) = await store.jobs(ids)
    assert job.errors[0].type == "TimeoutError"


async def test_a_cancel_request_reaches_async_and_plain_handlers(store: FaultyStore, app: GoQueue) -> None:
    latch = Latch()
    loop = asyncio.get_running_loop()

    @app.task
    async def endless() -> None:
        await latch.pass_through()

    @app.task
    def polite(ctx: Context[object]) -> None:
        loop.call_soon_threadsafe(latch.note, "thread")
        until = time.monotonic() + DEADLINE_S
        while not ctx.cancelled and time.monotonic() < until:
            time.sleep(0.005)
        raise RuntimeError("stopped half-way")

    ids = await store.enqueue(endless.job(), polite.job())
    async with working(Worker(app, store, quick(beat_s=0.1, lease_s=3.0))):
        await latch.until_started(2)
        await store.memory.change(Selection("default", tuple(ids)), CancelJobs())
        await store.until(lambda: len(store.settled) == 2)
    assert {job.state for job in await store.jobs(ids)} == {JobState.CANCELLED}


@pytest.mark.parametrize("in_thread", [False, True])
async def test_a_handler_that_ignores_its_timeout_loses_its_slot(
    store: FaultyStore, app: GoQueue, in_thread: bool
) -> None:
    """FAULTS 13 (light): it is reported with its stack, and its slot goes to another job."""
    latch, let_go = Latch(), threading.Event()

    @app.task(timeout_s=0.05)
    async def deaf() -> None:
        while not latch.end.is_set():
            try:
                await latch.end.wait()
            except asyncio.CancelledError:
                continue

    @app.task(timeout_s=0.05)
    def deaf_in_thread() -> None:
        let_go.wait(DEADLINE_S)

    @app.task
    def fine() -> None: ...

    ids = await store.enqueue((deaf_in_thread if in_thread else deaf).job(), fine.job())
    with capture_logs() as logs:
        async with working(Worker(app, store, quick(concurrency=1, threads=1, cancel_grace_s=0.05))):
            await store.until(lambda: len(store.settled) == 2)
            latch.end.set()
            let_go.set()
    (reported,) = [line for line in logs if line["event"] == "abandon"]
    assert (reported["job_id"], reported["outcome"]) == (ids[0], "retry")
    assert "let_go.wait" in reported["stack"] if in_thread else "in deaf" in reported["stack"]
    (full,) = [line for line in logs if line["event"] == "recycle"]  # nobody can recycle it, but it can be told
    assert full["hung"] == 1
    hung, other = await store.jobs(ids)
    assert other.state is JobState.COMPLETED
    assert hung.state is JobState.RETRYING
    assert hung.errors[0].type == "TimeoutError"
    assert "latch.end.wait" in hung.errors[0].traceback or "in deaf" in hung.errors[0].traceback
    assert len(store.settled) == 2  # its late end changes nothing


# -- the store and its faults ---------------------------------------------------------------------


async def test_a_worker_waits_for_its_store_and_comes_back_by_itself(store: FaultyStore, app: GoQueue) -> None:
    latch = Latch()

    @app.task
    async def hold(n: int) -> int:
        await latch.pass_through()
        return n

    store.down = True
    ids = await store.enqueue(*(hold.job(n) for n in range(5)))
    async with working(Worker(app, store, quick())):
        store.down = False
        await latch.until_started(5)
        store.down = True
        latch.end.set()
        await asyncio.sleep(0)  # let them end: their outcomes meet a store that is down
        await asyncio.sleep(0)
        store.down = False
        await store.until(lambda: len(store.settled) == 5)
    assert {job.state for job in await store.jobs(ids)} == {JobState.COMPLETED}


async def test_outcomes_are_sent_again_when_the_answer_was_lost(store: FaultyStore, app: GoQueue) -> None:
    latch = Latch()

    @app.task
    async def hold() -> None:
        await latch.pass_through()

    ids = await store.enqueue(*(hold.job() for _ in range(5)))
    async with working(Worker(app, store, quick())):
        await latch.until_started(5)
        store.lose_answers = 1
        latch.end.set()
        await store.until(lambda: store.answers.count(Answer.ALREADY) == 5)
    assert store.answers.count(Answer.APPLIED) == 5
    assert {job.attempt for job in await store.jobs(ids)} == {1}


async def test_a_locked_row_is_tried_again_and_holds_up_no_other(store: FaultyStore, app: GoQueue) -> None:
    @app.task
    async def fine() -> None: ...

    ids = await store.enqueue(*(fine.job() for _ in range(10)))
    busy = 3

    def spoil(settlement: Settlement) -> Answer | None:
        nonlocal busy
        if settlement.ref.id == ids[4] and busy:
            busy -= 1
            return Answer.BUSY
        return None

    store.spoil = spoil
    await Worker(app, store, quick()).run_until_idle()
    assert [settlement.ref.id for settlement in store.settled][-3:] == [ids[4]] * 3
    assert {job.state for job in await store.jobs(ids)} == {JobState.COMPLETED}


async def test_an_outcome_that_the_store_fails_on_is_found_and_replaced(store: FaultyStore, app: GoQueue) -> None:
    @app.task
    async def answer(n: int) -> int:
        return n

    ids = await store.enqueue(*(answer.job(n) for n in range(10)))

    def spoil(settlement: Settlement) -> Exception | None:
        bad = settlement.ref.id == ids[4] and isinstance(settlement.outcome, Complete)
        return InvalidInput("this cannot be stored") if bad else None

    store.spoil = spoil
    await Worker(app, store, quick()).run_until_idle()
    jobs = await store.jobs(ids)
    assert [job.state for job in jobs].count(JobState.COMPLETED) == 9
    assert jobs[4].state is JobState.DEAD
    assert "this cannot be stored" in jobs[4].errors[0].message


@pytest.mark.parametrize(
    "trouble", [SerializationConflict("again"), PermissionDenied("no right"), SchemaTooNew("newer"), KeyError("a bug")]
)
async def test_no_result_is_lost_to_trouble_that_is_the_stores(
    store: FaultyStore, app: GoQueue, trouble: Exception
) -> None:
    """A failover, a missing right, an error that nobody foresaw: every outcome waits until the store takes it."""

    @app.task
    async def answer(n: int) -> int:
        return n

    ids = await store.enqueue(*(answer.job(n) for n in range(3)))
    times = dict.fromkeys(ids, 1)

    def spoil(settlement: Settlement) -> Exception | None:
        times[settlement.ref.id] -= 1
        return trouble if times[settlement.ref.id] >= 0 else None

    store.spoil = spoil
    await Worker(app, store, quick()).run_until_idle()
    assert [job.state for job in await store.jobs(ids)] == [JobState.COMPLETED] * 3


async def test_a_lost_lease_stops_its_handler_and_its_outcome_changes_nothing(store: FaultyStore, app: GoQueue) -> None:
    latch, refused = Latch(), asyncio.Event()

    @app.task
    async def zombie(ctx: Context[object]) -> None:
        try:
            await latch.pass_through()
        except asyncio.CancelledError:
            assert ctx.cancelled
            with pytest.raises(LeaseLost):
                await ctx.enqueue(zombie.job())
            refused.set()
            raise

    ids = await store.enqueue(zombie.job())
    async with working(Worker(app, store, quick(beat_s=0.1, lease_s=3.0))):
        await latch.until_started()
        (lease,) = store.leases
        # Somebody else decides it behind the worker's back, and it waits for its next attempt.
        await store.memory.settle([Settlement(lease.ref, lease.fence, Snooze(3600.0))])
        row = store.memory.memory.live["default", ids[0]]
        row.fence += 1
        await asyncio.wait_for(refused.wait(), DEADLINE_S)
        await store.until(lambda: Answer.LOST in store.answers)
    assert row.fence == lease.fence + 1


async def test_a_worker_that_cannot_beat_gives_its_leases_up_and_comes_back(store: FaultyStore, app: GoQueue) -> None:
    latch = Latch()
    stopped = []

    @app.task
    async def hold() -> None:
        try:
            await latch.pass_through()
        except asyncio.CancelledError:
            stopped.append("in time")
            store.note()
            raise

    ids = await store.enqueue(hold.job(), hold.job())
    async with working(Worker(app, store, quick(concurrency=1, prefetch=1, lease_s=0.5, lease_margin_s=0.1))):
        await latch.until_started()
        await store.until(lambda: len(store.leases) == 2)
        store.extend_down = True
        await store.until(lambda: len(stopped) == 1 and len(store.settled) == 2)
        assert {type(settlement.outcome) for settlement in store.settled} == {Release}
        claimed = len(store.leases)
        latch.end.set()
        store.extend_down = False
        await store.until(lambda: len(store.settled) == 4)
        assert len(store.leases) == claimed + 2
    jobs = await store.jobs(ids)
    assert {job.state for job in jobs} == {JobState.COMPLETED}
    assert {job.attempt for job in jobs} == {1}


async def test_an_embedded_worker_beats_from_a_thread_while_its_loop_is_blocked(
    store: FaultyStore, app: GoQueue
) -> None:
    second: list[FaultyStore] = []
    troubles = [StoreUnavailable("away"), RuntimeError("a bug in the store")]

    @asynccontextmanager
    async def second_store() -> AsyncIterator[FaultyStore]:
        if troubles:
            raise troubles.pop()
        second.append(FaultyStore(store.memory))
        yield second[0]

    @app.task
    async def block() -> None:
        time.sleep(1.5)  # noqa: ASYNC251  three leases; what a handler should not do

    ids = await store.enqueue(block.job())
    settings = quick(lease_s=0.5, beat_s=0.1, lease_margin_s=0.1, poll_s=0.01)
    async with asyncio.timeout(DEADLINE_S):
        await Worker(app, store, settings, second_store=second_store).run_until_idle()
    assert [(type(s.outcome), a) for s, a in zip(store.settled, store.answers, strict=True)] == [
        (Complete, Answer.APPLIED)
    ]
    assert len(second[0].beats) >= 3
    assert [job.attempt for job in await store.jobs(ids)] == [1]


async def test_nothing_is_claimed_while_too_many_outcomes_wait(store: FaultyStore, app: GoQueue) -> None:
    @app.task
    async def fine() -> None: ...

    ids = await store.enqueue(*(fine.job() for _ in range(40)))
    blocked = True

    def spoil(settlement: Settlement) -> Answer | None:
        return Answer.BUSY if blocked else None

    store.spoil = spoil
    async with working(Worker(app, store, quick(concurrency=5, prefetch=5, outcomes_waiting_max=10, poll_s=0.01))):
        await store.until(lambda: store.answers.count(Answer.BUSY) >= 30)
        assert len(store.leases) <= 20  # two trips were on their way when the brake came on
        blocked = False
        await store.until(lambda: store.answers.count(Answer.APPLIED) == 40)
    assert {job.state for job in await store.jobs(ids)} == {JobState.COMPLETED}


async def test_after_a_crash_between_return_and_settle_the_job_runs_again_with_the_same_token(
    store: FaultyStore, app: GoQueue
) -> None:
    """FAULTS 32: the first worker's outcome never arrives, as if it had crashed."""
    tokens: list[str] = []

    @app.task
    async def effect(ctx: Context[object]) -> None:
        tokens.append(ctx.idempotency_token)
        store.note()

    ids = await store.enqueue(effect.job())
    store.spoil = lambda _: Answer.BUSY
    first = Worker(app, store, quick())
    running = asyncio.create_task(first.run())
    await store.until(lambda: len(tokens) == 1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    store.spoil = lambda _: None
    (lease,) = store.leases
    row = store.memory.memory.live["default", ids[0]]
    assert row.fence == lease.fence
    await store.memory.settle([Settlement(lease.ref, lease.fence, Release())])  # what a sweep would do
    await Worker(app, store, quick()).run_until_idle()
    assert tokens == [ids[0], ids[0]]
    assert [job.state for job in await store.jobs(ids)] == [JobState.COMPLETED]


async def test_a_stray_of_a_claim_whose_answer_was_lost_is_handed_back(store: FaultyStore, app: GoQueue) -> None:
    @app.task
    async def fine() -> None: ...

    ids = await store.enqueue(fine.job())
    store.lose_answers = 1
    store.strays = True
    async with working(Worker(app, store, quick(beat_s=0.05, lease_s=3.0))):
        await store.until(lambda: any(isinstance(settlement.outcome, Complete) for settlement in store.settled))
    assert [type(settlement.outcome) for settlement in store.settled] == [Release, Complete]
    assert [(job.state, job.attempt) for job in await store.jobs(ids)] == [(JobState.COMPLETED, 1)]


async def test_a_claim_whose_answer_takes_many_beats_is_no_stray(store: FaultyStore, app: GoQueue) -> None:
    ran = 0

    @app.task
    async def count() -> None:
        nonlocal ran
        ran += 1

    ids = await store.enqueue(count.job())
    store.slow_answers.clear()
    store.strays = True
    async with working(Worker(app, store, quick(beat_s=0.05, lease_s=3.0))):
        await store.until(lambda: bool(store.leases))
        seen = len(store.beats)
        await store.until(lambda: len(store.beats) >= seen + 4)
        store.slow_answers.set()
        await store.until(lambda: bool(store.settled))
    assert [type(settlement.outcome) for settlement in store.settled] == [Complete]
    assert ran == 1
    assert [(job.state, job.attempt) for job in await store.jobs(ids)] == [(JobState.COMPLETED, 1)]


# -- stopping -------------------------------------------------------------------------------------


async def test_a_graceful_stop_finishes_what_runs_and_hands_back_the_rest_at_once(
    store: FaultyStore, app: GoQueue
) -> None:
    """FAULTS 10."""
    latch = Latch()

    @app.task
    async def hold() -> None:
        await latch.pass_through()

    ids = await store.enqueue(*(hold.job() for _ in range(30)))
    worker = Worker(app, store, quick(concurrency=3, prefetch=5))
    async with working(worker) as running:
        await latch.until_started(3)
        await store.until(lambda: len(store.leases) == 8)
        stopped_at = time.monotonic()
        worker.stop()
        await store.until(lambda: len(store.settled) == 5)
        assert time.monotonic() - stopped_at < 1.0
        assert {type(settlement.outcome) for settlement in store.settled} == {Release}
        latch.end.set()
        await running
    jobs = await store.jobs(ids)
    states = [job.state for job in jobs]
    assert states.count(JobState.COMPLETED) == 3
    assert states.count(JobState.READY) == 27
    assert {job.attempt for job in jobs if job.state is JobState.READY} == {0}
    assert store.beats[-1].ttl_s == 0
    assert len(latch.started) == 3


@pytest.mark.parametrize("how", ["second stop", "end of grace"])
async def test_past_the_grace_running_jobs_are_handed_back(store: FaultyStore, app: GoQueue, how: str) -> None:
    """FAULTS 10."""
    latch = Latch()

    @app.task
    async def hold() -> None:
        await latch.pass_through()

    ids = await store.enqueue(*(hold.job() for _ in range(3)))
    worker = Worker(app, store, quick(grace_s=60.0 if how == "second stop" else 0.05))
    async with working(worker) as running:
        await latch.until_started(3)
        worker.stop()
        if how == "second stop":
            worker.stop()
        await running
    assert {type(settlement.outcome) for settlement in store.settled} == {Release}
    assert {(job.state, job.attempt) for job in await store.jobs(ids)} == {(JobState.READY, 0)}


async def test_a_deaf_handler_does_not_keep_the_worker_from_stopping(store: FaultyStore, app: GoQueue) -> None:
    latch = Latch()

    @app.task
    async def deaf() -> None:
        while not latch.end.is_set():
            try:
                await latch.pass_through()
            except asyncio.CancelledError:
                continue

    ids = await store.enqueue(deaf.job())
    worker = Worker(app, store, quick())
    running = asyncio.create_task(worker.run())
    await latch.until_started()
    worker.stop(now=True)
    await asyncio.wait_for(running, DEADLINE_S)
    assert [(job.state, job.attempt) for job in await store.jobs(ids)] == [(JobState.READY, 0)]
    latch.end.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_a_claim_that_arrives_after_the_stop_is_handed_back(store: FaultyStore, app: GoQueue) -> None:
    ran = []

    @app.task
    async def fine() -> None:
        ran.append(1)

    worker = Worker(app, store, quick())
    async with working(worker) as running:
        await store.until(lambda: len(store.claims) > 0)
        store.gate.clear()
        asked = asyncio.Event()
        weather = store._weather

        async def gated() -> None:
            asked.set()
            await weather()

        store._weather = gated  # type: ignore[method-assign] # a spy on when the claim is under way
        ids = await store.enqueue(fine.job())
        await asked.wait()
        worker.stop()
        store.gate.set()
        await running
    assert ran == []
    assert [(job.state, job.attempt) for job in await store.jobs(ids)] == [(JobState.READY, 0)]


async def test_a_restart_under_load_loses_and_repeats_nothing(store: FaultyStore, app: GoQueue) -> None:
    """FAULTS 10."""
    runs: dict[int, int] = {}

    @app.task
    async def note(n: int) -> None:
        await asyncio.sleep(0)
        runs[n] = runs.get(n, 0) + 1

    ids = await store.enqueue(*(note.job(n) for n in range(300)))
    for settled in (50, 100, 150):
        worker = Worker(app, store, quick())
        async with asyncio.timeout(DEADLINE_S):
            running = asyncio.create_task(worker.run())
            await store.until(lambda: len(runs) >= settled)  # noqa: B023  awaited within the loop
            worker.stop()
            await running
    await Worker(app, store, quick()).run_until_idle()
    assert runs == dict.fromkeys(range(300), 1)
    assert {job.attempt for job in await store.jobs(ids)} == {1}


async def test_stop_before_the_first_beat_is_a_stop(store: FaultyStore, app: GoQueue) -> None:
    store.down = True
    worker = Worker(app, store, quick())
    worker.stop()
    await asyncio.wait_for(worker.run(), DEADLINE_S)
    assert store.leases == []


async def test_outcome_types_of_a_mixed_batch(store: FaultyStore, app: GoQueue) -> None:
    @app.task(max_attempts=1)
    async def last() -> None:
        raise ValueError

    @app.task
    async def again() -> None:
        raise ValueError

    @app.task
    async def fine() -> None: ...

    await store.enqueue(last.job(), again.job(), fine.job())
    worker = Worker(app, store, quick())
    await worker.run_until_idle()
    assert [type(settlement.outcome) for settlement in store.settled] == [Dead, Retry, Complete]
    assert worker.settled == 3


async def test_a_loop_that_swallows_a_cancellation_is_cancelled_again() -> None:
    """As `asyncio.wait_for` does on Python 3.11 when both come in the same turn."""
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed == 2:
                    raise

    loop = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await asyncio.wait_for(end([loop]), DEADLINE_S)
    assert (loop.cancelled(), swallowed) == (True, 2)


async def test_outcomes_on_which_the_store_always_fails_hold_up_no_others(store: FaultyStore, app: GoQueue) -> None:
    @app.task
    async def noop() -> None: ...

    bad = set(await store.enqueue(*(noop.job() for _ in range(3))))
    store.spoil = lambda one: RuntimeError("nobody knows why") if one.ref.id in bad else None
    async with working(Worker(app, store, quick())) as running:
        await store.until(lambda: len(store.leases) == 3)
        ids = await store.enqueue(*(noop.job() for _ in range(5)))
        await store.until(lambda: len(store.settled) == 5)
        store.spoil = lambda _: None
        await store.until(lambda: len(store.settled) == 8)
        assert not running.done()
    assert {job.state for job in await store.jobs([*bad, *ids])} == {JobState.COMPLETED}


async def test_a_claim_that_is_answered_after_the_lease_is_over_starts_nothing(
    store: FaultyStore, app: GoQueue
) -> None:
    begun: list[int] = []

    @app.task
    async def note() -> None:
        begun.append(1)

    worker = Worker(app, store, quick(beat_s=0.1, lease_s=0.5, lease_margin_s=0.1))
    async with working(worker):
        await store.until(lambda: len(store.beats) >= 1)
        store.slow_answers.clear()
        ids = await store.enqueue(note.job())
        await store.until(lambda: len(store.leases) == 1)
        store.extend_down = True
        assert worker._parts is not None
        valid_s = worker._parts.keeper.valid_until - time.monotonic()
        await asyncio.sleep(valid_s + 0.1)
        assert not worker._parts.fetcher.open
        store.slow_answers.set()
        await store.until(lambda: len(store.settled) == 1)
        assert begun == []
        assert type(store.settled[0].outcome) is Release
        store.extend_down = False
        await store.until(lambda: len(store.settled) == 2)
    assert begun == [1]
    (job,) = await store.jobs(ids)
    assert (job.state, job.attempt) == (JobState.COMPLETED, 1)


async def test_no_beat_reaches_the_store_after_the_leave(app: GoQueue) -> None:
    """Whatever becomes of the one that is under way: it would show a worker that is gone as alive."""

    class Slow(FaultyStore):
        def __init__(self) -> None:
            super().__init__()
            self.on_its_way = asyncio.Event()

        async def extend(self, beat: Beat) -> Beaten:
            if beat.draining and beat.ttl_s:
                self.on_its_way.set()
                self.note()
                await asyncio.sleep(0.1)  # on its way it cannot be called back any more
            return await asyncio.shield(super().extend(beat))

    slow, begun = Slow(), asyncio.Event()

    @app.task
    async def wait() -> None:
        begun.set()
        await slow.on_its_way.wait()

    await slow.enqueue(wait.job())
    worker = Worker(app, slow, quick())
    async with working(worker) as running:
        await asyncio.wait_for(begun.wait(), DEADLINE_S)
        worker.stop()
        await asyncio.wait_for(running, DEADLINE_S)
    assert [(beat.draining, beat.ttl_s > 0) for beat in slow.beats[-2:]] == [(True, True), (True, False)]
