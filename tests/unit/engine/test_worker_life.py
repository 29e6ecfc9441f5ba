"""A worker over a memory store: what its journal says, when it beats out of turn, what it leaves to others."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

import pytest
from structlog.testing import capture_logs

from goqueue.engine.journal import Journal, Page
from goqueue.engine.keeper import BEAT_SOON_S
from goqueue.engine.running import Running
from goqueue.engine.worker import Worker
from goqueue.model.lease import Signal
from goqueue.model.outcome import Complete, Release
from goqueue.model.query import CancelJobs, Selection
from goqueue.model.state import JobState
from goqueue.tasks.app import GoQueue
from goqueue.tasks.context import Context
from tests.unit.engine.faults import DEADLINE_S, FaultyStore, Latch, quick

if TYPE_CHECKING:
    from goqueue.model.lease import Lease
    from goqueue.tasks.app import AnyTask


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


@pytest.fixture
def app() -> GoQueue:
    return GoQueue()


@pytest.fixture
def page() -> Iterator[Page]:
    page = Page.create(200)
    yield page
    page.close()


@asynccontextmanager
async def working(*workers: Worker) -> AsyncIterator[None]:
    async with asyncio.timeout(DEADLINE_S):
        running = [asyncio.create_task(worker.run()) for worker in workers]
        try:
            yield
        finally:
            for worker in workers:
                worker.stop(now=True)
            await asyncio.gather(*running)


async def bumped(page: Page) -> None:
    """Wait until the loop has said once more that it is alive."""
    before = page.alive_at
    for _ in range(int(DEADLINE_S * 100)):
        await asyncio.sleep(0.01)
        if page.alive_at != before:
            return
    raise AssertionError("the loop has not been alive")


# -- the journal ----------------------------------------------------------------------------------


async def test_the_page_says_that_the_loop_turns_and_until_when_handlers_may_keep_it_from_that(
    store: FaultyStore, app: GoQueue, page: Page
) -> None:
    latch = Latch()

    @app.task(timeout_s=300.0)
    async def timed() -> None:
        await latch.pass_through()

    @app.task
    async def endless() -> None:
        await latch.pass_through()

    worker = Worker(app, store, quick(), journal=Journal(page))
    async with working(worker):
        await bumped(page)
        assert page.alive_at == pytest.approx(time.monotonic(), abs=5.0)
        assert page.busy_until == 0.0
        ids = await store.enqueue(timed.job())
        await latch.until_started(1)
        began_at = time.monotonic()
        for _ in range(2):  # from its start, whenever it is looked at
            assert page.busy_until == pytest.approx(began_at + 300.0, abs=2.0)
            await bumped(page)
        ids += await store.enqueue(endless.job())
        await latch.until_started(2)
        assert page.busy_until == math.inf
        await bumped(page)
        assert page.busy_until == math.inf
        latch.end.set()
        await store.until(lambda: len(store.settled) == 2)
        await bumped(page)
        assert page.busy_until == 0.0
        assert set(page.started()) == {(id, 1) for id in ids}  # what has ended is still written there
    assert page.alive_at == math.inf


async def test_what_waits_for_a_slot_or_a_thread_has_not_started(store: FaultyStore, app: GoQueue, page: Page) -> None:
    latch = Latch()

    @app.task
    async def wait() -> None:
        await latch.pass_through()

    ids = await store.enqueue(*(wait.job() for _ in range(8)))
    async with working(Worker(app, store, quick(concurrency=2, prefetch=4), journal=Journal(page))):
        await latch.until_started(2)
        await store.until(lambda: len(store.leases) >= 6)
        assert set(page.started()) == {(id, 1) for id in ids[:2]}
        latch.end.set()


async def test_what_waits_for_a_thread_is_handed_back_at_once_by_a_stop(store: FaultyStore, app: GoQueue) -> None:
    """FAULTS 10: it has a slot, but has not started, and must not start while what runs is waited for."""
    begun: list[str] = []
    end = threading.Event()

    @app.task
    def wait(ctx: Context[object]) -> None:
        begun.append(ctx.job_id)
        end.wait(DEADLINE_S)

    ids = await store.enqueue(*(wait.job() for _ in range(5)))
    worker = Worker(app, store, quick(concurrency=5, threads=1, beat_s=0.1, lease_s=3.0))
    running = asyncio.create_task(worker.run())
    await store.until(lambda: len(store.leases) == 5 and bool(begun))
    worker.stop()
    await store.until(lambda: len(store.settled) == 4)
    assert {type(one.outcome) for one in store.settled} == {Release}
    assert not running.done()
    end.set()
    await asyncio.wait_for(running, DEADLINE_S)
    assert begun == ids[:1]
    jobs = await store.jobs(ids)
    assert [job.state for job in jobs] == [JobState.COMPLETED] + [JobState.READY] * 4
    assert [job.attempt for job in jobs] == [1, 0, 0, 0, 0]


@pytest.mark.parametrize("threads", [1, 4], ids=["for a thread", "for a slot"])
async def test_a_job_that_is_cancelled_while_it_waits_does_not_start(
    store: FaultyStore, app: GoQueue, threads: int
) -> None:
    begun: list[str] = []
    end = threading.Event()

    @app.task
    def wait(ctx: Context[object]) -> None:
        begun.append(ctx.job_id)
        end.wait(DEADLINE_S)

    ids = await store.enqueue(wait.job(), wait.job())
    concurrency = 2 if threads == 1 else 1
    worker = Worker(app, store, quick(concurrency=concurrency, prefetch=1, threads=threads, beat_s=0.1, lease_s=3.0))
    async with working(worker):
        await store.until(lambda: len(store.leases) == 2 and bool(begun))
        await store.memory.change(Selection("default", (ids[1],)), CancelJobs())
        await store.until(lambda: len(store.settled) == 1)
        end.set()
        await store.until(lambda: len(store.settled) == 2)
    assert begun == ids[:1]
    assert [job.state for job in await store.jobs(ids)] == [JobState.COMPLETED, JobState.CANCELLED]


# -- beats out of turn ----------------------------------------------------------------------------


async def test_a_cancel_request_does_not_wait_for_the_next_beat(store: FaultyStore, app: GoQueue) -> None:
    latch = Latch()

    @app.task
    async def wait() -> None:
        await latch.pass_through()

    ids = await store.enqueue(wait.job())
    async with working(Worker(app, store, quick(lease_s=600.0, beat_s=200.0))):
        await latch.until_started()
        await store.memory.change(Selection("default", tuple(ids)), CancelJobs())
        await store.until(lambda: len(store.settled) == 1)
    assert [job.state for job in await store.jobs(ids)] == [JobState.CANCELLED]


async def test_a_storm_of_cancel_requests_is_no_storm_of_beats(store: FaultyStore, app: GoQueue) -> None:
    worker = Worker(app, store, quick(lease_s=600.0, beat_s=200.0, poll_s=60.0))
    async with working(worker):
        await store.until(lambda: len(store.beats) >= 1)
        assert worker._parts is not None
        began_at = time.monotonic()
        until = began_at + 3 * BEAT_SOON_S
        while time.monotonic() < until:
            worker._parts.keeper.beat_at_once()
            await asyncio.sleep(0.002)
        # 0.1, 0.2, 0.4, 0.8 and then one each second; the idle one; the first.
        assert 3 <= len(store.beats) <= 6 + (time.monotonic() - began_at) / BEAT_SOON_S


# -- what others could run ------------------------------------------------------------------------


async def test_behind_long_jobs_nothing_waits_while_another_worker_is_idle(store: FaultyStore, app: GoQueue) -> None:
    latch = Latch()

    @app.task
    async def long() -> None:
        await latch.pass_through()

    @app.task
    async def short() -> None: ...

    first = await store.enqueue(*(long.job() for _ in range(2)))
    second = await store.enqueue(*(short.job() for _ in range(5)))
    busy = Worker(app, store, quick(concurrency=2, prefetch=10))
    other = FaultyStore(store.memory)
    idle = Worker(app, other, quick(concurrency=2, prefetch=10))
    with capture_logs() as logs:
        async with working(busy):
            await latch.until_started(2)
            await store.until(lambda: len(store.leases) == 7)
            async with working(idle):
                await other.until(lambda: len(other.settled) == 5)
            assert [type(one.outcome) for one in store.settled] == [Release] * 5
            assert [type(one.outcome) for one in other.settled] == [Complete] * 5
            assert len(store.leases) == 7  # it does not claim them again
            latch.end.set()
            await store.until(lambda: len(store.settled) == 7)
    assert [job.attempt for job in await store.jobs(first + second)] == [1] * 7
    assert [line["jobs"] for line in logs if line["event"] == "hand_back"] == [5]


class Deaf(FaultyStore):
    async def signals(self, tenant: str, queues: Sequence[str]) -> AsyncIterator[Signal]:
        await asyncio.Event().wait()
        yield Signal()


async def test_what_it_gave_back_it_claims_again_as_soon_as_a_slot_is_free(app: GoQueue) -> None:
    """It does not wait for the next poll, which is far away, nor for a wake-up, which others may have heard."""
    store, latch = Deaf(), Latch()

    @app.task
    async def long() -> None:
        await latch.pass_through()

    await store.enqueue(*(long.job() for _ in range(7)))
    worker = Worker(app, store, quick(concurrency=2, prefetch=10, poll_s=60.0))
    async with working(worker):
        await latch.until_started(2)
        await store.until(lambda: len(store.settled) == 5)
        latch.end.set()
        await store.until(lambda: len(store.settled) == 12)


async def test_jobs_that_run_alone_take_no_room_from_the_slots(store: FaultyStore, app: GoQueue) -> None:
    """Also when nothing is claimed ahead: a crowd of them would keep all others from being claimed."""
    worker = Worker(app, store, quick(concurrency=4, prefetch=4))
    async with working(worker):
        await store.until(lambda: len(store.beats) >= 1)
        assert worker._parts is not None
        fetcher, runner = worker._parts.fetcher, worker._parts.runner
        fetcher._prefetch.allowed = 0
        runner._suspects.running += 2
        for number in range(2):
            runner.running[f"alone {number}"] = Running(cast("Lease", None), cast("AnyTask", None), 0.0)
        assert fetcher._room() == 4
        fetcher._prefetch.allowed = 4
        assert fetcher._room() == 6
        runner._suspects.running += 7
        for number in range(2, 9):
            runner.running[f"alone {number}"] = Running(cast("Lease", None), cast("AnyTask", None), 0.0)
        assert fetcher._room() == 4  # what the slots need
        runner._suspects.running -= 7
        for number in range(2, 9):
            del runner.running[f"alone {number}"]
        for number in range(2):
            del runner.running[f"alone {number}"]
        runner._suspects.running -= 2


# -- age ------------------------------------------------------------------------------------------


async def test_without_a_supervisor_it_says_once_that_it_should_be_replaced_and_goes_on(
    store: FaultyStore, app: GoQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("goqueue.engine.pulse.ALIVE_S", 0.01)

    @app.task
    async def noop() -> None: ...

    with capture_logs() as logs:
        async with working(Worker(app, store, quick(recycle_jobs=5, recycle_memory_bytes=1))):
            await store.enqueue(*(noop.job() for _ in range(10)))
            await store.until(lambda: len(store.settled) == 10)
            await asyncio.sleep(0.1)
            await store.enqueue(noop.job())
            await store.until(lambda: len(store.settled) == 11)
    lines = [line for line in logs if line["event"] == "recycle"]
    assert len(lines) == 1
    assert "restart this process" in lines[0]["do"]
