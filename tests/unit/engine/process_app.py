"""An application whose handlers run in processes: importable, as those must be."""

from __future__ import annotations

import os
import signal
import time

from goqueue.tasks.app import GoQueue
from goqueue.tasks.context import Context
from goqueue.tasks.retry import RetryPolicy
from goqueue.tasks.signals import SnoozeJob

app = GoQueue(retry=RetryPolicy.fixed(3600.0, no_retry_on=(LookupError,)))


@app.task(run_in="process")
def pid() -> int:
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
