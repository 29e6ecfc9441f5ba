"""The application of the acceptance tests: each effect is a line in the file that EFFECTS names."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from goqueue import Context, GoQueue, RetryPolicy

app = GoQueue()


def effect(*words: object) -> None:
    """Append one line, whole, whoever else writes."""
    line = " ".join(map(str, words)) + "\n"
    descriptor = os.open(os.environ["GOQUEUE_TEST_EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


@app.task
async def add(x: int, y: int) -> int:
    return x + y


@app.task
async def work(ctx: Context[None], number: int, sleep_s: float) -> int:
    await asyncio.sleep(sleep_s)
    effect("work", ctx.job_id, ctx.attempt, os.getpid())
    return number


@app.task
def work_in_thread(ctx: Context[None], number: int) -> int:
    effect("work", ctx.job_id, ctx.attempt, os.getpid())
    return number


@app.task(run_in="process")
def work_in_process(number: int) -> int:
    return number * 2


@app.task(queue="elsewhere")
async def in_a_queue_of_its_own() -> None:
    pass


@app.task(timeout_s=0.3, retry=RetryPolicy.fixed(3600))
async def endless() -> None:
    await asyncio.Event().wait()


@app.task(run_in="process", timeout_s=0.3, retry=RetryPolicy.fixed(3600))
async def endless_in_process() -> None:
    await asyncio.Event().wait()


@app.task
async def gated(ctx: Context[None], gate: str) -> int:
    """Wait until the file ``gate`` is there."""
    effect("gated", ctx.job_id, ctx.attempt, os.getpid())
    while not Path(gate).exists():  # noqa: ASYNC110, ASYNC240 - another process opens it
        await asyncio.sleep(0.01)
    return ctx.attempt
