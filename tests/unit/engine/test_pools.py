"""Threads and processes are fewer than slots: what waits for one is not hoarded, and does not go in circles."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from typing import cast

import pytest

from goqueue.engine.pools import BRAKE_S, CALM_S, HOLD_MAX_S, Pool, Pools
from goqueue.engine.prefetch import JUDGE_S
from goqueue.engine.running import Running
from goqueue.engine.worker import Worker
from goqueue.model.outcome import Release
from goqueue.model.state import StoredState
from goqueue.tasks.app import GoQueue
from tests.unit.engine.faults import DEADLINE_S, FaultyStore, quick
from tests.unit.engine.test_worker_life import working

LOOK_S = 0.5
SLOTS, AHEAD = 2, 50


class Queue:
    """A pool in a worker that claims what it may from a queue. ``mix`` of ten jobs are for the pool, which does so many
    a second; the others end at once."""

    def __init__(self, *, mix: int = 10) -> None:
        self.now_s = 100.0
        self.pool = Pool(SLOTS, ahead_max=AHEAD, now_s=lambda: self.now_s)
        self.pools = Pools(self.pool)
        self.mix = mix
        self.claims = 0
        self.handed_back = 0
        self.done = 0.0
        self.tasks: dict[Running, asyncio.Task[None]] = {}

    async def goes_on(self, seconds: float, *, a_second: float, most: int = 1_000_000) -> None:
        for _ in range(int(seconds / LOOK_S)):
            self.now_s += LOOK_S
            self.done += a_second * LOOK_S
            while self.done >= 1.0:
                self.done -= 1.0
                if self.pool.free < SLOTS:
                    self.pool.release()
            await asyncio.sleep(0)
            for run in self.pools.look():
                self.handed_back += 1
                self.tasks[run].cancel()
            await asyncio.sleep(0)
            for _ in range(min(self.pools.limit(AHEAD - len(self.pool.waiting)), most)):
                self.claim()
            await asyncio.sleep(0)

    def claim(self) -> None:
        self.claims += 1
        if self.claims % 10 < self.mix and not self.pool.take():
            run = cast("Running", object())
            self.tasks[run] = asyncio.create_task(self.pool.wait(run))


async def test_what_waits_behind_long_jobs_is_given_back_but_ever_more_rarely() -> None:
    queue = Queue()
    await queue.goes_on(JUDGE_S, a_second=0.0)
    assert queue.handed_back == 0  # not before that says anything
    await queue.goes_on(2 * LOOK_S, a_second=0.0)
    assert queue.handed_back >= AHEAD - 2
    assert not queue.pool.waiting
    await queue.goes_on(BRAKE_S - LOOK_S, a_second=0.0)
    assert not queue.pool.waiting  # others had time to take them
    before = queue.handed_back
    await queue.goes_on(3600.0, a_second=0.0)
    assert 0 < queue.handed_back - before <= AHEAD * (3600.0 / HOLD_MAX_S + 10)


async def test_while_others_may_take_them_only_a_slot_that_comes_free_is_claimed_for() -> None:
    queue = Queue()
    await queue.goes_on(JUDGE_S + 2 * LOOK_S, a_second=0.0)
    assert queue.handed_back > 0
    before = queue.claims
    await queue.goes_on(LOOK_S, a_second=1 / LOOK_S)
    assert queue.claims - before == 1
    assert queue.pool.free == 0


async def test_short_jobs_may_wait_for_their_turn() -> None:
    queue = Queue()
    await queue.goes_on(600.0, a_second=100.0)
    assert queue.handed_back == 0


@pytest.mark.parametrize("count", [1, 20])
async def test_jobs_that_come_back_do_not_keep_others_from_being_claimed(count: int) -> None:
    """Nobody else works, the pool's jobs last for hours, and there are slots for the others."""
    queue = Queue(mix=0)
    pool_jobs = SLOTS + count
    waiting_since: deque[float | None] = deque([None] * pool_jobs)  # None: one for the pool; else one that ends at once
    longest_s, done = 0.0, 0
    for _ in range(int(600 / LOOK_S)):
        queue.now_s += LOOK_S
        waiting_since.append(queue.now_s)
        for run in queue.pools.look():
            queue.tasks.pop(run).cancel()
            waiting_since.append(None)
        await asyncio.sleep(0)
        while waiting_since and queue.pools.limit(AHEAD - len(queue.pool.waiting)) > 0:
            since = waiting_since.popleft()
            if since is not None:
                longest_s, done = max(longest_s, queue.now_s - since), done + 1
            elif not queue.pool.take():
                run = cast("Running", object())
                queue.tasks[run] = asyncio.create_task(queue.pool.wait(run))
                await asyncio.sleep(0)
    assert longest_s <= BRAKE_S + LOOK_S
    assert done >= 600 / LOOK_S - 5


async def test_when_nothing_has_waited_for_a_while_it_begins_anew() -> None:
    queue = Queue()
    await queue.goes_on(600.0, a_second=0.0)
    queue.mix = 0
    await queue.goes_on(HOLD_MAX_S + BRAKE_S + CALM_S + 1.0, a_second=0.0)
    assert (queue.pool.allowed, len(queue.pool.waiting)) == (AHEAD, 0)
    queue.mix, before = 10, queue.handed_back
    await queue.goes_on(JUDGE_S + 2 * LOOK_S, a_second=0.0)
    assert queue.handed_back > before


async def test_who_is_told_to_go_when_its_turn_has_come_passes_it_on() -> None:
    pool = Pool(1, ahead_max=AHEAD)
    assert pool.take()
    assert not pool.take()
    first, second = (asyncio.create_task(pool.wait(cast("Running", object()))) for _ in range(2))
    await asyncio.sleep(0)
    pool.release()
    first.cancel()  # it has not heard yet that it has a slot
    await asyncio.wait_for(second, DEADLINE_S)
    assert first.cancelled() or first.done()
    assert (pool.free, pool.waiting) == (0, {})
    pool.release()
    assert pool.free == 1


async def test_who_goes_while_it_waits_takes_nobodys_turn() -> None:
    pool = Pool(1, ahead_max=AHEAD)
    assert pool.take()
    first, second = (asyncio.create_task(pool.wait(cast("Running", object()))) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    pool.release()
    await asyncio.wait_for(second, DEADLINE_S)
    pool.release()
    assert (pool.free, pool.waiting) == (1, {})


# -- in a worker ----------------------------------------------------------------------------------


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goqueue.engine.pulse.ALIVE_S", 0.02)
    monkeypatch.setattr("goqueue.engine.pools.JUDGE_S", 0.1)
    monkeypatch.setattr("goqueue.engine.pools.BRAKE_S", 0.3)


@pytest.mark.usefixtures("hurried")
async def test_what_waits_for_a_thread_here_runs_where_one_is_free() -> None:
    app, store, end = GoQueue(), FaultyStore(), threading.Event()

    @app.task
    def hold() -> None:
        end.wait(DEADLINE_S)

    @app.task
    def short() -> None: ...

    @app.task
    async def at_once() -> None: ...

    busy = Worker(app, store, quick(threads=1))
    async with working(busy):
        (held,) = await store.enqueue(hold.job())
        await store.until(lambda: len(store.leases) == 1)
        ids = await store.enqueue(*(short.job() for _ in range(8)))
        await store.until(lambda: len(store.leases) >= 9)
        async with working(Worker(app, store, quick())):
            await store.until(lambda: states(store, ids) == [StoredState.COMPLETED] * 8)
        assert {job.attempt for job in await store.jobs(ids)} == {1}  # to be given back costs nothing
        (other,) = await store.enqueue(at_once.job())
        await store.until(lambda: states(store, [other]) == [StoredState.COMPLETED])
        assert states(store, [held]) == [StoredState.RUNNING]
        end.set()


@pytest.mark.usefixtures("hurried")
async def test_where_nobody_else_works_it_does_not_go_in_circles() -> None:
    app, store, end = GoQueue(), FaultyStore(), threading.Event()

    @app.task
    def hold() -> None:
        end.wait(DEADLINE_S)

    @app.task
    def short() -> None: ...

    @app.task
    async def at_once() -> None: ...

    async with working(Worker(app, store, quick(threads=1))):
        await store.enqueue(hold.job())
        await store.until(lambda: len(store.leases) == 1)
        ids = await store.enqueue(*(short.job() for _ in range(8)))
        await store.until(lambda: any(isinstance(one.outcome, Release) for one in store.settled))
        began_at, before = time.monotonic(), len(store.leases)
        others = await store.enqueue(*(at_once.job() for _ in range(20)))
        await store.until(lambda: states(store, others) == [StoredState.COMPLETED] * 20)
        await asyncio.sleep(max(0.0, began_at + 4.0 - time.monotonic()))
        # All eight are claimed again after 0.3, 0.7, 1.2, 1.9 and 3.0 s, held, and given back; each other once.
        rounds = 6 + int(time.monotonic() - began_at - 4.0)
        assert len(store.leases) - before - 20 <= 8 * rounds
        end.set()
        await store.until(lambda: states(store, ids) == [StoredState.COMPLETED] * 8)


def states(store: FaultyStore, ids: list[str]) -> list[StoredState]:
    memory = store.memory.memory
    rows = {row.job.id: row for row in (*memory.live.values(), *memory.past.values())}
    return [rows[id].state for id in ids]
