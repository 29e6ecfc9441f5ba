"""An application whose handlers run in processes: importable, as those must be."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from typing import Any

from goqueue.tasks.app import GoQueue
from goqueue.tasks.context import Context
from goqueue.tasks.retry import RetryPolicy
from goqueue.tasks.signals import SnoozeJob

app = GoQueue(retry=RetryPolicy.fixed(3600.0, no_retry_on=(LookupError,)))


@app.task(run_in="process")
def pid() -> int:
    return os.getpid()


@app.task(run_in="process")
def nap(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


@app.task(run_in="process")
async def pid_async() -> int:
    return os.getpid()


@app.task(run_in="process")
def leave(code: int) -> None:
    os._exit(code)


@app.task(run_in="process")
def segfault() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(60)


@app.task(run_in="process", timeout_s=0.3)
def spin() -> None:
    while True:
        pass


@app.task(run_in="process")
def forever(path: str) -> None:
    with open(path, "w") as file:  # noqa: PTH123  the shortest that a child can do
        file.write(str(os.getpid()))
    while True:
        pass


@app.task(run_in="process")
def fail() -> None:
    raise LookupError("not in the child either")


def _raise(name: str) -> None:
    match name:
        case "SystemExit":
            sys.exit(3)
        case "KeyboardInterrupt":
            raise KeyboardInterrupt
        case "CancelledError":
            raise asyncio.CancelledError
        case "RecursionError":
            _fall(0)
        case "MemoryError":
            bytearray(1 << 62)
        case "GeneratorExit":
            raise GeneratorExit
        case _:
            raise AssertionError(name)


def _fall(depth: int) -> int:
    return _fall(depth + 1) + 1


@app.task(run_in="process")
def raise_in_process(name: str) -> None:
    _raise(name)


@app.task(run_in="process")
async def raise_async_in_process(name: str) -> None:
    await asyncio.sleep(0)
    _raise(name)


@app.task(run_in="process")
def count(number: int) -> int:
    return number


@app.task(run_in="process")
def snooze() -> None:
    raise SnoozeJob(60.0, "later")


@app.task
async def grandchild(n: int) -> int:
    return n


@app.task(run_in="process")
def parent(ctx: Context[object]) -> str:
    ctx.progress({"step": 1})
    ctx.run(ctx.enqueue(grandchild.job(ctx.attempt)))
    return ctx.job_id


@app.task(run_in="process")
def unprintable() -> object:
    return object()


@app.task(run_in="process")
def die_with_a_heir(path: str) -> None:
    """What it forks inherits its connection to the worker, and outlives it."""
    heir = os.fork()
    if not heir:
        time.sleep(60)
        os._exit(0)
    with open(path, "w") as file:  # noqa: PTH123  as above
        file.write(str(heir))
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(run_in="process")
def talk(ctx: Context[object]) -> None:
    ctx.log("from the child")
    ctx.log("x" * 3, level="debug")
    ctx.progress(9)


@app.task(run_in="process", version=2, aliases=["versioned_before"])
def versioned(numbers: list[int]) -> list[int]:
    return numbers


@versioned.upcast(from_version=1)
def _listed(args: dict[str, Any]) -> dict[str, Any]:
    return {"numbers": [args["n"]]}
