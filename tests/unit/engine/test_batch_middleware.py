"""Middleware goes around each job of a batch, although the call is one."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextvars import ContextVar
from typing import Any

import pytest

from goqueue.engine.worker import Worker
from goqueue.model.job import NewJob
from goqueue.settings import WorkerSettings
from goqueue.store.memory.store import MemoryStore
from goqueue.tasks.app import GoQueue
from goqueue.tasks.context import Context
from goqueue.tasks.middleware import Middleware
from goqueue.tasks.prepare import prepare
from goqueue.tasks.retry import RetryPolicy

around: ContextVar[str] = ContextVar("around", default="")


class Watch(Middleware):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def run(self, ctx: Context[Any]) -> Generator[None, object, None]:
        name = ctx.tags[0]
        if name == "refused":
            raise PermissionError("not this one")
        token = around.set("inside")
        self.lines.append(f"{name} begins")
        try:
            result = yield
        except ValueError as error:
            self.lines.append(f"{name} raised {error}")
            raise LookupError("another") from error
        else:
            self.lines.append(f"{name} returned {result}")
            if name == "broken":
                raise ArithmeticError("after the work")
        finally:
            around.reset(token)


@pytest.mark.parametrize("plain", [False, True])
async def test_each_job_has_its_own_layers_around_it(plain: bool) -> None:
    watch = Watch()
    app = GoQueue(middleware=[watch], retry=RetryPolicy.fixed(3600.0))
    calls: list[list[int]] = []

    def double(items: Sequence[int]) -> list[int | Exception]:
        assert around.get() == "inside"
        calls.append(list(items))
        return [ValueError(f"no {item}") if item == 3 else 2 * item for item in items]

    if plain:
        task = app.batch_task(max_wait_s=30.0, max_size=5, kind="double")(double)
    else:

        @app.batch_task(max_wait_s=30.0, max_size=5, kind="double")
        async def task(items: Sequence[int]) -> list[int | Exception]:
            return double(items)

    names = ("one", "two", "three", "refused", "broken")
    made: list[NewJob[object]] = [task.job(n).options(tags=[name]) for n, name in enumerate(names, 1)]
    jobs = [prepare(job) for job in made]
    # One that cannot be decoded fails inside its layers, too.
    jobs[1] = prepare(NewJob(kind="double", args=b'{"item": "two"}', tags=("two",)))
    store = MemoryStore()
    await store.enqueue(jobs)
    await Worker(app, store, WorkerSettings(concurrency=5, poll_s=0.02)).run_until_idle()

    records = await store.get("default", [job.id for job in jobs])
    found = {
        record.tags[0]: record.errors[-1].type if record.errors else bytes(record.result or b"")
        for record in records
        if record is not None
    }
    assert calls == [[1, 3, 5]]
    assert found["one"] == b"2"
    assert found["two"] == "goqueue.model.errors.InvalidArguments"
    assert found["three"] == "LookupError"
    assert found["refused"] == "PermissionError"
    assert found["broken"] == "ArithmeticError"
    assert [line for line in watch.lines if not line.endswith("begins")] == [
        "one returned 2",
        "three raised no 3",
        "broken returned 10",
    ]
