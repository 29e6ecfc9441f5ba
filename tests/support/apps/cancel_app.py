"""Handlers that run until they hear that they shall stop, and write down when: one of each kind, and a deaf one."""

from __future__ import annotations

import asyncio
import os
import time

from goqueue import Context, GoQueue

app = GoQueue()
FOR_EVER_S = 600.0


def note(*words: object) -> None:
    """Append one line, whole, with the machine's monotonic clock, which all its processes share."""
    line = " ".join(map(str, (*words, time.monotonic()))) + "\n"
    descriptor = os.open(os.environ["GOQUEUE_TEST_EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


@app.task
async def in_loop(ctx: Context[None]) -> None:
    note("started", ctx.job_id, os.getpid())
    try:
        await asyncio.sleep(FOR_EVER_S)
    except asyncio.CancelledError:
        note("heard", ctx.job_id, os.getpid())
        assert ctx.cancelled
        raise


@app.task
def in_thread(ctx: Context[None]) -> None:
    note("started", ctx.job_id, os.getpid())
    if ctx.wait(FOR_EVER_S):
        note("heard", ctx.job_id, os.getpid())
        ctx.raise_if_cancelled()


@app.task(run_in="process")
def in_process(ctx: Context[None]) -> None:
    note("started", ctx.job_id, os.getpid())
    if ctx.wait(FOR_EVER_S):
        note("heard", ctx.job_id, os.getpid())
        ctx.raise_if_cancelled()


@app.task(run_in="process")
def deaf(ctx: Context[None]) -> None:
    note("started", ctx.job_id, os.getpid())
    time.sleep(FOR_EVER_S)
