"""An application with middleware, importable, as handlers in processes must be."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from goqueue.model.job import NewJob
from goqueue.model.query import Enqueued
from goqueue.tasks.app import GoQueue
from goqueue.tasks.context import Context
from goqueue.tasks.middleware import Middleware
from goqueue.tasks.retry import RetryPolicy

current: ContextVar[str] = ContextVar("current", default="")


@contextmanager
def bound(value: str) -> Generator[None, None, None]:
    token = current.set(value)
    try:
        yield
    finally:
        current.reset(token)  # raises in a context that is not the one of `set`


class Trace(Middleware):
    """Goes around both, and writes to a file what it saw."""

    path: Path | None = None

    def run(self, ctx: Context[Any]) -> Generator[None, object, None]:
        self.note(f"{ctx.kind} {ctx.attempt} {ctx.meta.get('trace', '')} begins")
        with bound(ctx.meta.get("trace", "none")):
            try:
                result = yield
            except BaseException as error:
                self.note(f"{ctx.kind} raised {type(error).__name__}")
                raise
        self.note(f"{ctx.kind} returned {result!r}")

    def enqueue(self, job: NewJob[Any]) -> Generator[NewJob[Any], Enqueued, None]:
        answer = yield job.options(meta={**job.meta, "trace": f"{current.get()}>{job.kind}"})
        self.note(f"{job.kind} {answer.status}")

    def note(self, line: str) -> None:
        with Path(os.environ["GOQUEUE_TEST_TRACE"]).open("a") as file:
            file.write(line + "\n")


class Swallow(Middleware):
    def run(self, ctx: Context[Any]) -> Generator[None, object, None]:
        try:
            yield
        except KeyError:
            pass
        except ValueError as error:
            raise LookupError("another") from error


app = GoQueue(middleware=[Trace(), Swallow()], retry=RetryPolicy.fixed(3600.0, no_retry_on=[LookupError]))


def _do(what: str) -> str:
    match what:
        case "key":
            raise KeyError(what)
        case "value":
            raise ValueError(what)
        case "stop":
            raise StopIteration(what)
        case "exit":
            raise SystemExit(3)
        case _:
            pass
    return f"{what} in {current.get()}"


@app.task
async def loop(what: str) -> str:
    return _do(what)


@app.task
def thread(what: str) -> str:
    return _do(what)


@app.task(run_in="process")
def process(what: str) -> str:
    return _do(what)


@app.task(run_in="process")
async def process_loop(what: str) -> str:
    return _do(what)


@app.task
async def parent(ctx: Context[None]) -> None:
    await ctx.enqueue(loop.job("child"))


@app.task(run_in="process")
def process_parent(ctx: Context[None]) -> None:
    ctx.run(ctx.enqueue(loop.job("child")))
