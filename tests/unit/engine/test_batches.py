"""Batched handlers: how jobs gather, and that each keeps an outcome, a lease and a life of its own."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest

from goqueue.engine import verdict as judging
from goqueue.engine.worker import Worker
from goqueue.model.job import JobRecord, NewJob
from goqueue.model.outcome import Complete, Crash, Release
from goqueue.model.query import CancelJobs, Selection
from goqueue.settings import StoreSettings
from goqueue.store.memory.store import MemoryStore
from goqueue.tasks.app import GoQueue
from goqueue.tasks.batch import BatchContext
from goqueue.tasks.context import Context, in_handler
from goqueue.tasks.retry import RetryPolicy
from goqueue.tasks.signals import CancelJob, DeadJob, RetryJob, SnoozeJob
from tests.unit.engine import batch_app
from tests.unit.engine.faults import DEADLINE_S, FaultyStore, Latch, quick

LONG_S = 30.0
"""No batch waits for so long here: what ends the wait is something else."""


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


@pytest.fixture
def app() -> GoQueue:
    return GoQueue(retry=RetryPolicy.fixed(3600.0))


@asynccontextmanager
async def working(worker: Worker) -> AsyncIterator[asyncio.Task[None]]:
    async with asyncio.timeout(DEADLINE_S):
        running = asyncio.create_task(worker.run())
        try:
            yield running
        finally:
            worker.stop()
            worker.stop()
            await running


async def run(store: FaultyStore, app: GoQueue, *jobs: NewJob[object], **settings: object) -> list[JobRecord]:
    ids = await store.enqueue(*jobs)
    async with asyncio.timeout(DEADLINE_S):
        await Worker(app, store, quick(**settings)).run_until_idle()
    return await store.jobs(ids)


def results(jobs: Sequence[JobRecord]) -> list[bytes]:
    return [bytes(job.result or b"") for job in jobs]


def states(jobs: Sequence[JobRecord]) -> list[str]:
    return [str(job.state) for job in jobs]


@dataclass
class Document:
    """An item."""

    title: str
    words: int = 0


# -- sizes and waits --------------------------------------------------------------------------------


async def test_one_call_has_many_jobs_and_each_has_its_result(store: FaultyStore, app: GoQueue) -> None:
    sizes: list[int] = []

    @app.batch_task(max_size=4)
    async def index(documents: Sequence[Document]) -> list[str]:
        assert in_handler.get()
        assert isinstance(documents, list)
        sizes.append(len(documents))
        return [document.title.upper() for document in documents]

    jobs = await run(store, app, *(index.job(Document(f"d{n}")) for n in range(10)))
    assert states(jobs) == ["completed"] * 10
    assert results(jobs) == [b'"D%d"' % n for n in range(10)]
    assert sum(sizes) == 10
    assert max(sizes) == 4
    assert not in_handler.get()


async def test_plain_functions_have_a_thread_for_a_whole_batch(store: FaultyStore, app: GoQueue) -> None:
    threads: list[str] = []

    @app.batch_task(max_size=5)
    def double(ctx: BatchContext[None], numbers: list[int]) -> list[int]:
        threads.append(threading.current_thread().name)
        assert in_handler.get()
        assert len(ctx) == len(numbers)
        return [2 * number for number in numbers]

    jobs = await run(store, app, *(double.job(n) for n in range(10)), threads=1)
    assert results(jobs) == [b"%d" % (2 * n) for n in range(10)]
    assert len(threads) == 2
    assert "MainThread" not in threads


async def test_a_full_batch_does_not_wait(store: FaultyStore, app: GoQueue) -> None:
    @app.batch_task(max_size=3, max_wait_s=LONG_S)
    async def size(items: list[int]) -> list[int]:
        return [len(items)] * len(items)

    assert results(await run(store, app, *(size.job(n) for n in range(6)))) == [b"3"] * 6


async def test_a_batch_that_can_grow_no_more_does_not_wait(store: FaultyStore, app: GoQueue) -> None:
    @app.batch_task(max_size=1_000, max_wait_s=LONG_S)
    async def size(items: list[int]) -> list[int]:
        return [len(items)] * len(items)

    assert results(await run(store, app, *(size.job(n) for n in range(8)), concurrency=4)) == [b"4"] * 8


async def test_a_batch_that_is_not_full_waits_for_others_and_then_begins(store: FaultyStore, app: GoQueue) -> None:
    @app.batch_task(max_size=3, max_wait_s=LONG_S)
    async def full(items: list[int]) -> list[int]:
        return [len(items)] * len(items)

    @app.batch_task(max_size=10, max_wait_s=0.05)
    async def early(items: list[int]) -> list[int]:
        return [len(items)] * len(items)

    async with working(Worker(app, store, quick())):
        ids = await store.enqueue(full.job(1), full.job(2), early.job(1), early.job(2))
        await store.until(lambda: len(store.settled) == 2)  # the second kind, after its time
        assert results(await store.jobs(ids)) == [b"", b"", b"2", b"2"]
        assert states((await store.jobs(ids))[:2]) == ["running"] * 2
        await store.enqueue(full.job(3))
        await store.until(lambda: len(store.settled) == 5)
        assert results(await store.jobs(ids))[:2] == [b"3"] * 2


async def test_each_job_of_a_batch_takes_a_slot(store: FaultyStore, app: GoQueue) -> None:
    latch = Latch()

    @app.batch_task(max_size=3, max_wait_s=0.0)
    async def hold(items: list[int]) -> list[int]:
        await latch.pass_through(items)
        return items

    await store.enqueue(*(hold.job(n) for n in range(9)))
    async with working(Worker(app, store, quick(concurrency=3, prefetch=2))):
        await latch.until_started(1)
        await store.until(lambda: len(store.beats) >= 1)
        assert sum(len(one) for one in latch.started if isinstance(one, list)) == 3
        assert len(store.leases) == 5
        latch.end.set()
        await store.until(lambda: len(store.settled) == 9)


async def test_kinds_are_not_mixed(store: FaultyStore, app: GoQueue) -> None:
    @app.batch_task()
    async def left(items: list[int]) -> list[list[int]]:
        return [items] * len(items)

    @app.batch_task()
    async def right(items: list[int]) -> list[list[int]]:
        return [items] * len(items)

    @app.task
    async def plain(n: int) -> int:
        return n

    jobs = await run(store, app, *(task.job(n) for n, task in enumerate((left, right, plain, left, right))))  # type: ignore[attr-defined]
    assert results(jobs) == [b"[0,3]", b"[1,4]", b"2", b"[0,3]", b"[1,4]"]


# -- outcomes ---------------------------------------------------------------------------------------


async def test_an_exception_in_the_place_of_a_result_is_that_jobs_alone(store: FaultyStore, app: GoQueue) -> None:
    @app.batch_task()
    async def mixed(items: list[int]) -> list[int | Exception]:
        return [item if item % 2 else ValueError(f"{item} is even") for item in items]

    jobs = await run(store, app, *(mixed.job(n) for n in range(4)))
    assert states(jobs) == ["retrying", "completed", "retrying", "completed"]
    assert [job.errors[0].message for job in jobs[::2]] == ["0 is even", "2 is even"]
    assert results(jobs)[1::2] == [b"1", b"3"]


async def test_each_job_can_decide_for_itself(store: FaultyStore, app: GoQueue) -> None:
    @app.batch_task()
    async def decide(items: list[str]) -> list[str | Exception]:
        made = {
            "snooze": SnoozeJob(60, "not yet"),
            "cancel": CancelJob("no more"),
            "dead": DeadJob("never"),
            "retry": RetryJob(60, "again"),
        }
        return [made.get(item, item) for item in items]

    jobs = await run(store, app, *(decide.job(what) for what in ("snooze", "cancel", "dead", "retry", "fine")))
    assert states(jobs) == ["scheduled", "cancelled", "dead", "retrying", "completed"]
    assert [job.attempt for job in jobs] == [0, 1, 1, 1, 1]


async def test_what_the_handler_raises_fails_all_each_by_its_own_attempts(store: FaultyStore, app: GoQueue) -> None:
    @app.batch_task()
    def fail(items: list[int]) -> list[int]:
        raise KeyError("all")

    jobs = await run(store, app, fail.job(1), fail.job(2).options(max_attempts=1))
    assert states(jobs) == ["retrying", "dead"]
    assert {job.errors[0].type for job in jobs} == {"KeyError"}
    assert "raise KeyError" in jobs[0].errors[0].traceback


@pytest.mark.parametrize(
    "returned, said",
    [([1], "1 results for 2 jobs"), ([1, 2, 3], "3 results for 2 jobs"), (None, "NoneType"), ("ab", "str"), (2, "int")],
)
async def test_a_wrong_number_of_results_is_a_failure_of_all(
    store: FaultyStore, app: GoQueue, returned: object, said: str
) -> None:
    @app.batch_task()
    async def wrong(items: list[int]) -> list[int]:
        return returned  # type: ignore[return-value]

    jobs = await run(store, app, wrong.job(1), wrong.job(2))
    assert states(jobs) == ["retrying", "retrying"]
    for job in jobs:
        assert job.errors[0].type.endswith("BatchMismatch")
        assert said in job.errors[0].message


async def test_a_result_that_cannot_be_kept_fails_its_job_alone(store: FaultyStore, app: GoQueue) -> None:
    @app.batch_task()
    async def odd(items: list[int]) -> list[object]:
        return [object() if item == 1 else item for item in items]

    assert states(await run(store, app, *(odd.job(n) for n in range(3)))) == ["completed", "retrying", "completed"]


class Lazy(Sequence[int]):
    """Makes its results when they are looked at, and cannot make all of them."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: Any) -> Any:  # Any: it gives no slices
        if index == 1:
            raise OSError("the cursor is closed")
        return index


@pytest.mark.parametrize("plain", [False, True])
async def test_results_that_cannot_be_looked_at_fail_all(store: FaultyStore, app: GoQueue, plain: bool) -> None:
    if plain:

        @app.batch_task(kind="look", max_size=3)
        def look_plain(items: list[int]) -> Sequence[int]:
            return Lazy()

    else:

        @app.batch_task(kind="look", max_size=3)
        async def look(items: list[int]) -> Sequence[int]:
            return Lazy()

    jobs = await run(store, app, *(NewJob[object](kind="look", args=b'{"item":%d}' % n) for n in range(3)))
    assert states(jobs) == ["retrying"] * 3
    assert {job.errors[0].message for job in jobs} == {"the cursor is closed"}


async def test_one_that_cannot_be_judged_keeps_no_other_from_its_outcome(
    store: FaultyStore, app: GoQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    @app.batch_task(max_size=3, max_wait_s=LONG_S)
    async def size(items: list[int]) -> list[int]:
        return items

    real = judging.verdict

    def verdict(returned: object, *arguments: Any, **more: Any) -> Any:  # Any: handed on as they are
        if returned == 0:
            raise ArithmeticError("no verdict")
        return real(returned, *arguments, **more)

    monkeypatch.setattr("goqueue.engine.running.verdict", verdict)
    told: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: told.append(repr(about.get("exception"))))
    ids = await store.enqueue(*(size.job(n) for n in range(3)))
    async with working(Worker(app, store, quick(concurrency=3))):
        await store.until(lambda: len(store.settled) == 2)
    assert states(await store.jobs(ids))[1:] == ["completed"] * 2
    gc.collect()
    assert told == ["ArithmeticError('no verdict')"]


async def test_arguments_that_do_not_fit_fail_their_job_alone(store: FaultyStore, app: GoQueue) -> None:
    called: list[list[int]] = []

    @app.batch_task(kind="count")
    async def count(items: list[int]) -> list[int]:
        called.append(items)
        return items

    foreign: NewJob[object] = NewJob(kind="count", args=b'{"item":"three"}', max_attempts=1)
    jobs = await run(store, app, count.job(1), foreign, count.job(2))
    assert states(jobs) == ["completed", "dead", "completed"]
    assert "/args/item" in jobs[1].errors[0].message
    assert called == [[1, 2]]


async def test_contexts_are_those_of_the_items_in_their_order(store: FaultyStore) -> None:
    @asynccontextmanager
    async def lifespan() -> AsyncIterator[str]:
        yield "the state"

    app = GoQueue(lifespan=lifespan)

    @app.task
    async def child(n: int) -> int:
        return n

    @app.batch_task()
    async def tell(ctx: BatchContext[str], items: list[int]) -> list[list[object]]:
        assert isinstance(ctx.items[0], Context)
        assert {one.state for one in ctx.items} == {ctx.state} == {"the state"}
        for item, one in zip(items, ctx.items, strict=True):
            one.progress(item)
            await one.enqueue(child.job(item))
        assert not ctx.cancelled
        return [[item, one.job_id, one.attempt] for item, one in zip(items, ctx.items, strict=True)]

    ids = await store.enqueue(*(tell.job(n) for n in range(3)))
    await Worker(app, store, quick()).run_until_idle()
    told = [b'[%d,"%s",1]' % (n, job_id.encode()) for n, job_id in enumerate(ids)]
    assert results(await store.jobs(ids)) == told


# -- interruptions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("plain", [False, True])
async def test_a_cancel_of_one_is_flagged_and_the_call_goes_on(store: FaultyStore, app: GoQueue, plain: bool) -> None:
    began, told = threading.Event(), threading.Event()

    @app.batch_task(max_wait_s=0.2, kind="hold")
    def hold_plain(ctx: BatchContext[None], items: list[int]) -> list[int | BaseException]:
        began.set()
        while not ctx.items[1].wait(0.01):
            pass
        assert [one.cancelled for one in ctx.items] == [False, True, False]
        assert not ctx.cancelled
        told.set()
        return [items[0], asyncio.CancelledError(), items[2]]

    other = GoQueue(retry=RetryPolicy.fixed(3600.0))

    @other.batch_task(max_wait_s=0.2, kind="hold")
    async def hold(ctx: BatchContext[None], items: list[int]) -> list[int | BaseException]:
        began.set()
        while not ctx.items[1].cancelled:  # noqa: ASYNC110  it is what this is about
            await asyncio.sleep(0.01)
        assert [one.cancelled for one in ctx.items] == [False, True, False]
        told.set()
        return [items[0], asyncio.CancelledError(), items[2]]

    ids = await store.enqueue(*(hold.job(n) for n in range(3)))
    async with working(Worker(app if plain else other, store, quick(cancel_grace_s=0.01))):
        await until(began.is_set)
        await store.memory.change(Selection("default", (ids[1],)), CancelJobs())
        await store.until(lambda: len(store.settled) == 3)
        assert told.is_set()
    assert states(await store.jobs(ids)) == ["completed", "cancelled", "completed"]


async def test_one_that_was_cancelled_and_done_all_the_same_is_completed(store: FaultyStore, app: GoQueue) -> None:
    latch = Latch()

    @app.batch_task(max_wait_s=0.2)
    async def stubborn(ctx: BatchContext[None], items: list[int]) -> list[int]:
        latch.note()
        while not ctx.items[0].cancelled:  # noqa: ASYNC110  it is what this is about
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        return items

    ids = await store.enqueue(stubborn.job(0), stubborn.job(1))
    async with working(Worker(app, store, quick(cancel_grace_s=0.01))):
        await latch.until_started()
        await store.memory.change(Selection("default", (ids[0],)), CancelJobs())
        await store.until(lambda: len(store.settled) == 2)
    assert states(await store.jobs(ids)) == ["completed", "completed"]


async def test_a_call_whose_jobs_are_all_cancelled_is_interrupted(store: FaultyStore, app: GoQueue) -> None:
    latch = Latch()

    @app.batch_task(max_wait_s=0.2)
    async def hold(items: list[int]) -> list[int]:
        await latch.pass_through()
        return items

    ids = await store.enqueue(*(hold.job(n) for n in range(3)))
    async with working(Worker(app, store, quick(cancel_grace_s=LONG_S))):
        await latch.until_started()
        await store.memory.change(Selection("default", tuple(ids)), CancelJobs())
        await store.until(lambda: len(store.settled) == 3)
    assert states(await store.jobs(ids)) == ["cancelled"] * 3


async def test_what_gathers_is_cancelled_at_once_and_not_called(store: FaultyStore, app: GoQueue) -> None:
    called: list[list[int]] = []

    @app.batch_task(max_size=3, max_wait_s=LONG_S)
    async def call(items: list[int]) -> list[int]:
        called.append(items)
        return items

    ids = await store.enqueue(call.job(0), call.job(1))
    async with working(Worker(app, store, quick())):
        await store.until(lambda: len(store.leases) == 2 and len(store.beats) > 0)
        await store.memory.change(Selection("default", (ids[0],)), CancelJobs())
        await store.until(lambda: len(store.settled) == 1)
        await store.enqueue(call.job(2), call.job(3))  # with the one that was cancelled they are four
        await store.until(lambda: len(store.settled) == 4)
    assert called == [[1, 2, 3]]
    assert states(await store.jobs(ids)) == ["cancelled", "completed"]


@pytest.mark.parametrize("plain", [False, True])
async def test_the_timeout_is_that_of_the_call(store: FaultyStore, app: GoQueue, plain: bool) -> None:
    latch = Latch()
    if plain:

        @app.batch_task(kind="slow", timeout_s=0.1)
        def slow_plain(ctx: BatchContext[None], items: list[int]) -> list[int]:
            ctx.items[0].wait(LONG_S)
            ctx.raise_if_cancelled()
            return items
    else:

        @app.batch_task(kind="slow", timeout_s=0.1)
        async def slow(items: list[int]) -> list[int]:
            await latch.pass_through()
            return items

    jobs = await run(store, app, *(NewJob[object](kind="slow", args=b'{"item":%d}' % n) for n in range(3)))
    assert states(jobs) == ["retrying"] * 3
    assert {job.errors[0].type for job in jobs} == {"TimeoutError"}


@pytest.mark.parametrize("plain", [False, True])
async def test_a_call_that_does_not_heed_its_timeout_is_given_up(store: FaultyStore, app: GoQueue, plain: bool) -> None:
    go = threading.Event()

    @app.batch_task(kind="deaf", timeout_s=0.05)
    def deaf_plain(items: list[int]) -> list[int]:
        if items[0] == 0:
            go.wait(LONG_S)
        return items

    other = GoQueue(retry=RetryPolicy.fixed(3600.0))

    @other.batch_task(kind="deaf", timeout_s=0.05)
    async def deaf(items: list[int]) -> list[int]:
        while items[0] == 0 and not go.is_set():
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)
        return items

    ids = await store.enqueue(*(deaf.job(0) for _ in range(3)))
    worker = Worker(app if plain else other, store, quick(threads=1, cancel_grace_s=0.05, concurrency=3, hung_max=2))
    async with working(worker):
        try:
            await store.until(lambda: len(store.settled) == 3)
            jobs = await store.jobs(ids)
            assert states(jobs) == ["retrying"] * 3
            assert "in deaf" in jobs[0].errors[0].traceback
            assert worker.hung == 1  # one call hangs, whatever it has had to do
            # The slots, and the thread, are free again.
            more = await store.enqueue(*(deaf.job(1) for _ in range(3)))
            await store.until(lambda: len(store.settled) == 6)
            assert states(await store.jobs(more)) == ["completed"] * 3
        finally:
            go.set()  # nothing else ends it
        await until(lambda: worker.hung == 0)


async def test_a_call_that_still_works_for_one_does_not_hang(store: FaultyStore, app: GoQueue) -> None:
    go = threading.Event()

    @app.batch_task(max_size=2, max_wait_s=LONG_S)
    def deaf(items: list[int]) -> list[int]:
        go.wait(LONG_S)
        return items

    ids = await store.enqueue(deaf.job(0).options(timeout_s=0.05), deaf.job(1))
    worker = Worker(app, store, quick(cancel_grace_s=0.05, concurrency=2, hung_max=1))
    async with working(worker):
        try:
            await store.until(lambda: len(store.settled) == 1)
            assert worker.hung == 0
        finally:
            go.set()  # nothing else ends it
        await store.until(lambda: len(store.settled) == 2)
        assert states(await store.jobs(ids)) == ["retrying", "completed"]


async def test_one_whose_own_time_is_shorter_fails_alone(store: FaultyStore, app: GoQueue) -> None:
    latch = Latch()

    @app.batch_task(max_wait_s=0.2)
    async def hold(items: list[int]) -> list[int]:
        await latch.pass_through()
        return items

    ids = await store.enqueue(hold.job(0), hold.job(1).options(timeout_s=0.05), hold.job(2))
    async with working(Worker(app, store, quick(cancel_grace_s=0.05))):
        await store.until(lambda: len(store.settled) == 1)
        assert states(await store.jobs(ids)) == ["running", "retrying", "running"]
        latch.end.set()
        await store.until(lambda: len(store.settled) == 3)
    assert states(await store.jobs(ids)) == ["completed", "retrying", "completed"]


async def test_those_for_which_it_is_too_late_are_left_out(store: FaultyStore, app: GoQueue) -> None:
    called: list[list[int]] = []

    @app.batch_task(max_size=3, max_wait_s=LONG_S)
    async def call(items: list[int]) -> list[int]:
        called.append(items)
        return items

    ids = await store.enqueue(call.job(0).options(schedule_to_start_s=0.1), call.job(1).options(deadline_s=0.1))
    async with working(Worker(app, store, quick())):
        await store.until(lambda: len(store.settled) == 2)
        await store.enqueue(*(call.job(n) for n in (2, 3, 4)))
        await store.until(lambda: len(store.settled) == 5)
    jobs = await store.jobs(ids)
    assert [(str(job.state), job.reason) for job in jobs] == [("dead", "expired"), ("dead", "deadline")]
    assert called == [[2, 3, 4]]


async def test_a_stop_gives_back_what_gathers_and_finishes_what_runs(store: FaultyStore, app: GoQueue) -> None:
    latch = Latch()

    @app.batch_task(max_size=2, max_wait_s=LONG_S)
    async def hold(items: list[int]) -> list[int]:
        await latch.pass_through()
        return items

    ids = await store.enqueue(*(hold.job(n) for n in range(3)))
    worker = Worker(app, store, quick())
    async with asyncio.timeout(DEADLINE_S):
        running = asyncio.create_task(worker.run())
        await latch.until_started()
        await store.until(lambda: len(store.leases) == 3)
        worker.stop()
        await store.until(lambda: any(isinstance(one.outcome, Release) for one in store.settled))
        latch.end.set()
        await running
    jobs = await store.jobs(ids)
    assert states(jobs) == ["completed", "completed", "ready"]
    assert [job.attempt for job in jobs] == [1, 1, 0]
    assert len(latch.started) == 1


async def test_a_stop_that_cannot_wait_gives_back_what_runs(store: FaultyStore, app: GoQueue) -> None:
    latch = Latch()

    @app.batch_task(max_size=3)
    async def hold(items: list[int]) -> list[int]:
        await latch.pass_through()
        return items

    ids = await store.enqueue(*(hold.job(n) for n in range(3)))
    async with working(Worker(app, store, quick())):
        await latch.until_started()
    assert states(await store.jobs(ids)) == ["ready"] * 3


async def test_batches_wait_for_a_thread(store: FaultyStore, app: GoQueue) -> None:
    go, started = threading.Event(), list[int]()

    @app.batch_task(max_size=2)
    def hold(items: list[int]) -> list[int]:
        started.append(len(items))
        go.wait(LONG_S)
        return items

    ids = await store.enqueue(*(hold.job(n) for n in range(6)))
    async with working(Worker(app, store, quick(threads=1))):
        await until(lambda: started == [2])
        await store.until(lambda: len(store.leases) == 6)
        assert started == [2]
        go.set()
        await store.until(lambda: len(store.settled) == 6)
    assert started == [2, 2, 2]
    assert states(await store.jobs(ids)) == ["completed"] * 6


async def test_a_stop_while_batches_wait_for_a_thread_gives_them_back(store: FaultyStore, app: GoQueue) -> None:
    go, began = threading.Event(), threading.Event()

    @app.batch_task(max_size=2)
    def hold(items: list[int]) -> list[int]:
        began.set()
        go.wait(LONG_S)
        return items

    ids = await store.enqueue(*(hold.job(n) for n in range(4)))
    worker = Worker(app, store, quick(threads=1))
    async with asyncio.timeout(DEADLINE_S):
        running = asyncio.create_task(worker.run())
        await until(began.is_set)
        await store.until(lambda: len(store.leases) == 4)
        worker.stop()
        await store.until(lambda: len(store.settled) >= 2)
        go.set()
        await running
    jobs = await store.jobs(ids)
    assert sorted(states(jobs)) == ["completed", "completed", "ready", "ready"]
    assert sorted(job.attempt for job in jobs) == [0, 0, 1, 1]


async def test_batches_that_will_have_no_thread_soon_are_given_back_whole(store: FaultyStore, app: GoQueue) -> None:
    go = threading.Event()

    @app.batch_task(max_size=2)
    def hold(items: list[int]) -> list[int]:
        go.wait(LONG_S)
        return items

    await store.enqueue(*(hold.job(n) for n in range(6)))
    async with working(Worker(app, store, quick(threads=1))):
        try:
            await store.until(lambda: len(store.settled) >= 4)
            assert {type(one.outcome) for one in store.settled} == {Release}
            assert len({one.ref.id for one in store.settled[:4]}) == 4
        finally:
            go.set()


# -- alone ------------------------------------------------------------------------------------------


async def test_a_suspect_runs_alone_in_a_fresh_process_as_a_batch_of_one() -> None:
    store = FaultyStore(MemoryStore(settings=StoreSettings(crash_delay_s=0.0)))
    ids = await store.enqueue(batch_app.where.job(5), batch_app.where_plain.job(6), batch_app.poison.job(3))
    for job_id in ids:
        store.memory.memory.live["default", job_id].crashes = 1
    fine = await store.enqueue(batch_app.where.job(7), batch_app.where.job(8))
    async with asyncio.timeout(60):
        worker = Worker(batch_app.app, store, quick(), app_ref="tests.unit.engine.batch_app:app")
        running = asyncio.create_task(worker.run())
        await store.until(lambda: len(store.settled) >= 5)
        worker.stop(now=True)
        await running
    outcomes = {one.ref.id: one.outcome for one in reversed(store.settled)}
    first, second, third = (outcomes[job_id] for job_id in ids)
    assert isinstance(first, Complete)
    assert isinstance(second, Complete)
    assert isinstance(third, Crash)
    assert (first.result or b"").endswith(b",1,5,1]")
    assert (second.result or b"").endswith(b",1,6]")
    assert not (first.result or b"").startswith(b"[%d," % os.getpid())
    together = [bytes(job.result or b"") for job in await store.jobs(fine)]
    assert together == [b"[%d,2,%d,1]" % (os.getpid(), n) for n in (7, 8)]


async def test_a_task_alone_raises_what_stands_in_the_place_of_its_result(app: GoQueue) -> None:
    @app.batch_task()
    async def fail(items: list[int]) -> list[int | Exception]:
        return [ValueError(str(item)) for item in items]

    with pytest.raises(ValueError, match="3"):
        await fail.alone.function(None, item=3)  # type: ignore[misc]  # it is async
    assert fail.alone.alone is fail.alone
    assert fail.alone.is_async
    assert fail.alone.wants_context


async def until(condition: object) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # type: ignore[operator]  # noqa: ASYNC110  threads change it
            await asyncio.sleep(0.005)
