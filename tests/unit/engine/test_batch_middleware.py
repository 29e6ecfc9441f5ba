"""Middleware goes around each job of a batch, although the call is one."""

from __future__ import annotations

import asyncio
import threading
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
from tests.unit.engine.faults import DEADLINE_S

around: ContextVar[str] = ContextVar("around", default="")


class Watch(Middleware):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def run(self, ctx: Context[Any]) -> Generator[None, object, None]:
        name = ctx.tags[0]
        if name == "refused":
            raise PermissionError("not this one")
        assert around.get() == ""  # nor by the layers around another
        token = around.set(name)
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
            assert around.get() == name
            around.reset(token)


@pytest.mark.parametrize("plain", [False, True])
async def test_each_job_has_its_own_layers_around_it(plain: bool) -> None:
    watch = Watch()
    app = GoQueue(middleware=[watch], retry=RetryPolicy.fixed(3600.0))
    calls: list[list[int]] = []

    def double(items: Sequence[int]) -> list[int | Exception]:
        assert around.get() == ""  # it works on all: what is set around one of them is not seen
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


class Where(Middleware):
    """Notes the thread before and after."""

    def __init__(self) -> None:
        self.threads: list[int] = []

    def run(self, ctx: Context[Any]) -> Generator[None, object, None]:
        self.threads.append(threading.get_ident())
        yield
        self.threads.append(threading.get_ident())


async def test_the_layers_of_a_plain_batch_run_in_the_thread_of_its_handler() -> None:
    where = Where()
    app = GoQueue(middleware=[where])
    handlers: list[int] = []

    @app.batch_task(max_wait_s=30.0, max_size=3)
    def plain(items: list[int]) -> list[int]:
        handlers.append(threading.get_ident())
        return items

    store = MemoryStore()
    await store.enqueue([prepare(plain.job(n)) for n in range(3)])
    await Worker(app, store, WorkerSettings(concurrency=3, poll_s=0.02)).run_until_idle()
    assert len(handlers) == 1
    assert where.threads == handlers * 6
    assert handlers[0] != threading.get_ident()


class Gate(Middleware):
    """Blocks whoever comes here until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def run(self, ctx: Context[Any]) -> Generator[None, object, None]:
        self.reached.set()
        if not self.opened.wait(DEADLINE_S):
            raise TimeoutError("nobody has opened it")
        yield


async def test_a_layer_that_blocks_around_a_plain_batch_does_not_block_the_loop() -> None:
    gate = Gate()
    app = GoQueue(middleware=[gate])

    @app.batch_task(max_wait_s=30.0, max_size=2)
    def plain(items: list[int]) -> list[int]:
        return items

    store = MemoryStore()
    jobs = [prepare(plain.job(n)) for n in range(2)]
    await store.enqueue(jobs)
    worker = asyncio.create_task(Worker(app, store, WorkerSettings(concurrency=2, poll_s=0.02)).run_until_idle())
    async with asyncio.timeout(DEADLINE_S / 2):  # sooner than the gate gives way by itself
        while not gate.reached.is_set():  # noqa: ASYNC110  a thread sets it
            await asyncio.sleep(0.005)
        gate.opened.set()  # this could not run if the loop stood still
        await worker
    assert [str(job.state) for job in await store.get("default", [job.id for job in jobs]) if job] == ["completed"] * 2
