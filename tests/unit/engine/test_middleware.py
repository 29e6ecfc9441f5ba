"""Middleware around runs: async handlers, plain ones and those in processes, and what handlers enqueue."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from goqueue.engine.worker import Worker
from goqueue.model.job import JobRecord, NewJob
from goqueue.model.state import JobState
from goqueue.tasks.app import GoQueue
from goqueue.tasks.context import Context
from goqueue.tasks.middleware import Middleware
from goqueue.tasks.task import Task
from tests.unit.engine import onion_app as tasks
from tests.unit.engine.faults import FaultyStore, quick

HANDLERS: list[Task[[str], str]] = [tasks.loop, tasks.thread, tasks.process, tasks.process_loop]


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


@pytest.fixture(autouse=True)
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GOQUEUE_TEST_TRACE", str(tmp_path / "trace"))
    return tmp_path / "trace"


def lines_of(trace: Path) -> list[str]:
    return trace.read_text().splitlines()


async def run(store: FaultyStore, *jobs: NewJob[Any], app: GoQueue = tasks.app) -> list[JobRecord]:
    ids = await store.enqueue(*jobs)
    async with asyncio.timeout(60):
        await Worker(app, store, quick(), app_ref="tests.unit.engine.onion_app:app").run_until_idle()
    return await store.jobs(ids)


@pytest.mark.parametrize("task", HANDLERS, ids=lambda task: task.kind)
async def test_it_goes_around_each_kind_of_handler(store: FaultyStore, task: Task[[str], str], trace: Path) -> None:
    job = task.job("fine").options(meta={"trace": "t1"})
    (record,) = await run(store, job)
    assert (record.state, bytes(record.result or b"")) == (JobState.COMPLETED, b'"fine in t1"')
    kind = task.kind
    assert lines_of(trace) == [f"{kind} 1 t1 begins", f"{kind} returned 'fine in t1'"]


@pytest.mark.parametrize("task", HANDLERS, ids=lambda task: task.kind)
async def test_an_error_is_raised_at_the_yield(store: FaultyStore, task: Task[[str], str], trace: Path) -> None:
    swallowed, changed, left = await run(store, task.job("key"), task.job("value"), task.job("exit"))
    assert (swallowed.state, swallowed.result) == (JobState.COMPLETED, None)
    assert (changed.state, changed.reason) == (JobState.DEAD, "not_retryable"), "judged by what the middleware raised"
    assert (changed.errors[0].type, left.errors[0].type) == ("LookupError", "SystemExit")
    assert "onion.py" not in left.errors[0].traceback
    lines = lines_of(trace)
    assert {f"{task.kind} returned None", f"{task.kind} raised LookupError", f"{task.kind} raised SystemExit"} <= {
        *lines
    }


async def test_a_handler_may_raise_what_generators_do_not_like(store: FaultyStore) -> None:
    in_thread, in_process = await run(store, tasks.thread.job("stop"), tasks.process.job("stop"))
    assert in_thread.errors[0].type == in_process.errors[0].type == "StopIteration"


@pytest.mark.parametrize("task", HANDLERS, ids=lambda task: task.kind)
async def test_arguments_that_do_not_fit_are_seen(store: FaultyStore, task: Task[[str], str], trace: Path) -> None:
    (record,) = await run(store, NewJob(kind=task.kind, args=b'{"what":5}'))
    assert record.errors[0].type.endswith("InvalidArguments")
    assert f"{task.kind} raised InvalidArguments" in lines_of(trace)


@pytest.mark.parametrize("parent", [tasks.parent, tasks.process_parent], ids=lambda task: task.kind)
async def test_what_a_handler_enqueues_goes_through_it(store: FaultyStore, parent: Task[[], None], trace: Path) -> None:
    await run(store, parent.job().options(meta={"trace": "t2"}))
    lines = lines_of(trace)
    assert "loop inserted" in lines
    assert {"loop 1 t2>loop begins", "loop returned 'child in t2>loop'"} <= {*lines}


class Broken(Middleware):
    def __init__(self, where: str) -> None:
        self.where = where

    def run(self, ctx: Context[Any]) -> Generator[None, object, None]:
        if self.where == "before":
            raise OSError(self.where)
        if self.where == "never":
            return
        yield
        if self.where == "twice":
            yield
        if self.where == "after":
            raise OSError(self.where)


class NoGenerator(Middleware):
    def run(self, ctx: Context[Any]) -> None:  # type: ignore[override]
        """Forgets its yield."""


class Outer(Middleware):
    def __init__(self) -> None:
        self.saw: list[str] = []

    def run(self, ctx: Context[Any]) -> Generator[None, object, None]:
        try:
            result = yield
            self.saw.append(str(result))
        except Exception as error:
            self.saw.append(type(error).__name__)
            raise


@pytest.mark.parametrize(
    "inner, error, runs",
    [
        (Broken("before"), "OSError", 0),
        (Broken("after"), "OSError", 1),
        (Broken("never"), "MiddlewareError", 0),
        (Broken("twice"), "MiddlewareError", 1),
        (NoGenerator(), "MiddlewareError", 0),
    ],
)
@pytest.mark.parametrize("plain", [True, False])
async def test_its_own_errors_are_the_attempts(
    store: FaultyStore, inner: Middleware, error: str, runs: int, plain: bool
) -> None:
    outer = Outer()
    app = GoQueue(middleware=[outer, inner])
    ran = []
    if plain:
        app.task(kind="one")(lambda: ran.append(1))
    else:

        async def function() -> None:
            ran.append(1)

        app.task(kind="one")(function)
    (record,) = await run(store, NewJob(kind="one"), app=app)
    assert (record.state, record.attempt) == (JobState.RETRYING, 1)
    assert record.errors[0].type.rpartition(".")[2] == error
    assert (outer.saw, len(ran)) == ([error], runs)


async def test_a_timeout_is_a_cancelled_error_at_the_yield(store: FaultyStore) -> None:
    saw: list[bool] = []

    class Watch(Middleware):
        def run(self, ctx: Context[Any]) -> Generator[None, object, None]:
            try:
                yield
            except asyncio.CancelledError:
                saw.append(ctx.cancelled)
                raise

    app = GoQueue(middleware=[Watch()])

    @app.task(timeout_s=0.05)
    async def slow() -> None:
        await asyncio.sleep(60)

    (record,) = await run(store, slow.job(), app=app)
    assert (saw, record.errors[0].type) == ([True], "TimeoutError")


async def test_the_including_applications_middleware_holds(store: FaultyStore) -> None:
    inner, outer = Outer(), Outer()
    included = GoQueue(middleware=[inner])

    @included.task
    async def one() -> int:
        return 1

    app = GoQueue(middleware=[outer])
    app.include(included)
    await run(store, one.job(), app=app)
    assert (inner.saw, outer.saw) == ([], ["1"])
