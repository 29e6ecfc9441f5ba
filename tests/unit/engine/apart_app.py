"""An application with a lifespan, whose handlers can run in any process: importable, as those must be."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from goqueue.model.errors import GoQueueError
from goqueue.tasks.app import GoQueue
from goqueue.tasks.context import Context
from goqueue.tasks.retry import RetryPolicy

TRACE = "GOQUEUE_TEST_TRACE"
"""Names a file to which lifespans write."""


@dataclass
class State:
    """What the lifespan yields."""

    entered: int = 0
    loop: asyncio.AbstractEventLoop | None = None
    ticks: list[int] = field(default_factory=list)

    async def add(self, a: int, b: int) -> int:
        """Do something on the loop where the lifespan lives."""
        assert asyncio.get_running_loop() is self.loop
        await asyncio.sleep(0)
        return a + b


def trace(text: str) -> None:
    with Path(os.environ[TRACE]).open("a") as file:
        file.write(f"{text} {os.getpid()}\n")


def note(path: str, text: str = "") -> None:
    Path(path).write_text(text or str(os.getpid()))


@asynccontextmanager
async def lifespan() -> AsyncIterator[State]:
    state = State(1, asyncio.get_running_loop())
    if TRACE in os.environ:
        if os.environ.get("GOQUEUE_TEST_BROKEN") and os.environ["GOQUEUE_TEST_BROKEN"] != str(os.getpid()):
            raise RuntimeError("the lifespan is broken")
        trace("enter")
    yield state
    if TRACE in os.environ:
        trace("leave")


app = GoQueue(lifespan=lifespan, retry=RetryPolicy.fixed(3600.0))


@app.task
async def in_loop(ctx: Context[State], n: int) -> list[int]:
    return [os.getpid(), await ctx.state.add(n, 1)]


@app.task
def in_thread(ctx: Context[State], n: int) -> list[int]:
    return [os.getpid(), ctx.run(ctx.state.add(n, 1))]


@app.task(run_in="process")
def in_process(ctx: Context[State], n: int) -> list[int]:
    return [os.getpid(), ctx.run(ctx.state.add(n, 1))]


@app.task
def leave(code: int) -> None:
    os._exit(code)


@app.task
async def leave_async(code: int) -> None:
    await asyncio.sleep(0)
    os._exit(code)


@app.task
async def hold(path: str, until: str) -> int:
    """Say that it has started; end when a file is there."""
    note(path)
    while not Path(until).exists():  # noqa: ASYNC110, ASYNC240  another process makes it
        await asyncio.sleep(0.01)
    return os.getpid()


@app.task(run_in="process", timeout_s=0.3)
def polite(ctx: Context[State], path: str) -> str:
    note(path)
    if ctx.wait(60.0):
        note(path + ".told", str(ctx.cancelled))
    return "late"


@app.task(run_in="process")
def waits(ctx: Context[State], path: str) -> str:
    note(path)
    return "told" if ctx.wait(60.0) else "never"


@app.task(run_in="process")
async def waits_async(path: str) -> str:
    note(path)
    try:
        await asyncio.sleep(60.0)
    except asyncio.CancelledError:
        note(path + ".told", "cancelled")
        raise
    return "never"


@app.task(run_in="process")
def deaf(path: str) -> None:
    note(path)
    time.sleep(60.0)


@app.task(run_in="process")
def grow(count: int) -> int:
    KEPT.append(bytearray(os.urandom(1)) * count)
    return os.getpid()


KEPT: list[bytearray] = []


@app.task(run_in="process")
def leave_a_thread(ctx: Context[State], path: str) -> int:
    """What it leaves behind speaks when its job has long ended."""

    def speak() -> None:
        while not Path(path).exists():
            time.sleep(0.01)
        ctx.progress("of the job before")
        try:
            ctx.run(ctx.enqueue(grow.job(1)))
        except GoQueueError as error:
            note(path + ".told", f"{error.code} {ctx.cancelled}")

    threading.Thread(target=speak, daemon=True).start()
    return os.getpid()


@app.task(run_in="process")
def let_it_speak(ctx: Context[State], path: str) -> int:
    note(path)
    while not Path(path + ".told").exists():
        ctx.wait(0.01)
    ctx.wait(0.5)  # several beats, which would carry what was said
    return os.getpid()
