"""The error of a job shows the user's code: none of ours outside of it, and none at all where no handler ran."""

from __future__ import annotations

import asyncio
import re
import threading
from contextlib import suppress
from pathlib import Path

import pytest

import goqueue
from goqueue.engine.failure import describe
from goqueue.engine.worker import Worker
from goqueue.model.job import NewJob
from goqueue.tasks.app import GoQueue
from goqueue.tasks.context import Context
from tests.unit.engine import process_app as tasks
from tests.unit.engine.faults import DEADLINE_S, FaultyStore, quick

OURS = str(Path(goqueue.__file__).parent)


def files(traceback: str) -> list[str]:
    """The files of its frames, outermost first."""
    return re.findall(r'File "([^"]+)", line', traceback)


async def told(store: FaultyStore, app: GoQueue, job: NewJob[object]) -> str:
    """Run one job that fails, and return what is kept of its error."""
    ids = await store.enqueue(job)
    await Worker(app, store, quick()).run_until_idle()
    [record] = await store.jobs(ids)
    return record.errors[0].traceback


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


@pytest.fixture
def app() -> GoQueue:
    return GoQueue()


@pytest.mark.parametrize(
    "job", [tasks.leave.job(3), tasks.segfault.job(), NewJob(kind="count", args=b'{"number":"x"}')]
)
async def test_where_no_handler_is_to_blame_there_is_no_frame(store: FaultyStore, job: NewJob[object]) -> None:
    text = await told(store, tasks.app, job)
    assert files(text) == []
    assert re.match(r"goqueue\.\S+\.(HandlerDied|InvalidArguments): .", text.splitlines()[-1]), text


@pytest.mark.parametrize("run_in", ["auto", "process"])
@pytest.mark.parametrize("kind", ["plain", "coroutine"])
async def test_the_first_frame_is_the_handlers(store: FaultyStore, app: GoQueue, kind: str, run_in: str) -> None:
    if run_in == "process":
        task = tasks.raise_in_process if kind == "plain" else tasks.raise_async_in_process
        text = await told(store, tasks.app, task.job("MemoryError"))
        assert files(text)[0] == tasks.__file__
        return

    def fail() -> None:
        raise LookupError

    @app.task
    def plain() -> None:
        fail()

    @app.task
    async def coroutine() -> None:
        fail()

    assert files(await told(store, app, NewJob(kind=kind))) == [__file__, __file__]


async def test_of_a_timeout_the_place_is_the_handlers(store: FaultyStore, app: GoQueue) -> None:
    @app.task(timeout_s=0.05)
    def deaf(ctx: Context[None]) -> None:
        ctx.wait(30)
        ctx.raise_if_cancelled()

    text = await told(store, app, NewJob(kind="deaf"))
    # Innermost ours stays: what the handler called.
    assert [name.startswith(OURS) for name in files(text)] == [False, True]
    assert "TimeoutError: ran for longer than its timeout of 0.05 s" in text


def test_the_errors_inside_a_group_and_its_cause_are_told_without_ours(app: GoQueue) -> None:
    @app.task
    def fail() -> None:
        raise LookupError("inside")

    errors = []
    for _ in range(2):
        try:
            fail()  # through our `CallableTask.__call__`
        except LookupError as error:
            error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
            errors.append(error)
    group = ExceptionGroup("some", [errors[0]])
    group.__cause__ = errors[1]
    assert files(describe(group).traceback) == [__file__, __file__]


@pytest.mark.parametrize("in_thread", [False, True])
async def test_of_a_handler_that_hangs_the_stack_is_its_own(store: FaultyStore, app: GoQueue, in_thread: bool) -> None:
    end = threading.Event()

    @app.task(timeout_s=0.05)
    async def deaf() -> None:
        while not end.is_set():
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)

    @app.task(timeout_s=0.05)
    def deaf_in_thread() -> None:
        end.wait(DEADLINE_S)

    ids = await store.enqueue(NewJob(kind="deaf_in_thread" if in_thread else "deaf"))
    worker = Worker(app, store, quick(cancel_grace_s=0.05))
    running = asyncio.create_task(worker.run())
    await store.until(lambda: len(store.settled) == 1)
    end.set()
    worker.stop()
    await asyncio.wait_for(running, DEADLINE_S)
    [job] = await store.jobs(ids)
    text = job.errors[0].traceback
    assert "HandlerHung" in text
    assert files(text)[0] == __file__
    assert not [name for name in files(text) if name.startswith(OURS)]
