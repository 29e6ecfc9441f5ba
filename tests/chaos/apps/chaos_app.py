"""The application of the fault suite. Every handler writes its start and end to the ledger, with its fence, and leaves
its fence in all that it gives to the store: result, progress, errors, child jobs."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from goqueue import Context, GoQueue, RetryJob, RetryPolicy, SnoozeJob
from tests.chaos import ledger

GATES = "GOQUEUE_TEST_GATES"
STEP_S = 0.01

Result = dict[str, object]

app = GoQueue(retry=RetryPolicy.exponential(base_s=0.1, cap_s=0.5))


class Failed(Exception):
    """What a failing handler raises: its words name its fence."""


class Run:
    """One attempt, as the ledger names it."""

    def __init__(self, ctx: Context[None]) -> None:
        # Handlers are not told their fence; the checker has to know it.
        self.fence = ctx._lease.fence
        self.id = ctx.job_id
        self.attempt = ctx.attempt

    def write(self, event: str, **fields: Any) -> None:
        ledger.write(event, id=self.id, fence=self.fence, attempt=self.attempt, **fields)

    def effect(self, what: str) -> None:
        self.write("effect", what=what)

    @property
    def mark(self) -> Result:
        return {"fence": self.fence, "attempt": self.attempt}

    def failure(self) -> Failed:
        return Failed(json.dumps(self.mark))


@contextlib.contextmanager
def attempt(ctx: Context[None]) -> Iterator[Run]:
    """Write the start and the end of a handler."""
    run = Run(ctx)
    run.write("start", kind=ctx.kind, token=ctx.idempotency_token)
    try:
        yield run
    except BaseException as error:
        run.write("end", outcome="raised", error=type(error).__name__)
        raise
    run.write("end", outcome="returned")


def gate(name: str) -> Path:
    return Path(os.environ[GATES]) / name


# -- work -------------------------------------------------------------------------------------------------------


@app.task
async def work(ctx: Context[None], ms: int = 0) -> Result:
    with attempt(ctx) as run:
        await asyncio.sleep(ms / 1000)
        run.effect("worked")
        return run.mark


@app.task
def work_in_thread(ctx: Context[None], ms: int = 0) -> Result:
    with attempt(ctx) as run:
        time.sleep(ms / 1000)
        run.effect("worked")
        return run.mark


@app.task(run_in="process")
def work_in_process(ctx: Context[None], ms: int = 0) -> Result:
    with attempt(ctx) as run:
        time.sleep(ms / 1000)
        run.effect("worked")
        return run.mark


@app.task
async def gated(ctx: Context[None], name: str) -> Result:
    """Run until somebody opens the gate."""
    with attempt(ctx) as run:
        while not gate(name).exists():  # noqa: ASYNC110 - another process opens it
            await asyncio.sleep(STEP_S)
        return run.mark


@app.task
async def flaky(ctx: Context[None], failures: int) -> Result:
    """Fail so many times, then work."""
    with attempt(ctx) as run:
        ctx.progress(run.mark)
        if ctx.attempt <= failures:
            raise run.failure()
        return run.mark


@app.task(retry=RetryPolicy.exponential(base_s=1e8, factor=100, cap_s=3.16e8))
async def flaky_with_a_huge_backoff(ctx: Context[None], failures: int) -> Result:
    with attempt(ctx) as run:
        if ctx.attempt <= failures:
            raise run.failure()
        return run.mark


@app.task
async def puts_off(ctx: Context[None], how: str, delay: str) -> Result:
    """Ask at the first start for a delay that makes no sense."""
    with attempt(ctx) as run:
        if run.fence == 1:
            raise SnoozeJob(float(delay)) if how == "snooze" else RetryJob(float(delay))
        return run.mark


# -- faults -----------------------------------------------------------------------------------------------------


def _die(how: str) -> None:
    if how == "exit":
        os._exit(3)
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "segv":
        ctypes.string_at(0)
    elif how == "memory":
        # What the kernel does to a process that is out of memory, with a limit of the process's own.
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        hoard = []
        with contextlib.suppress(MemoryError):
            while True:
                hoard.append(bytearray(32 << 20))
        os.kill(os.getpid(), signal.SIGKILL)


@app.task
async def poison(ctx: Context[None], how: str, times: int = 1_000) -> Result:
    """Kill the process at the first attempts, then work."""
    with attempt(ctx) as run:
        if ctx.attempt <= times:
            _die(how)
        return run.mark


@app.task
def poison_in_thread(ctx: Context[None], how: str) -> Result:
    with attempt(ctx) as run:
        _die(how)
        return run.mark


@app.task
def hold_gil(ctx: Context[None], s: float) -> Result:
    """Sit on the GIL: a C function called through PyDLL keeps it."""
    with attempt(ctx) as run:
        if ctx.attempt == 1:
            ctypes.PyDLL(None).usleep(int(s * 1e6))
        return run.mark


@app.task
async def raises(ctx: Context[None], what: str, times: int) -> Result:
    """Raise what programs rarely raise on purpose, at the first attempts."""
    with attempt(ctx) as run:
        if ctx.attempt <= times:
            _raise(what)
        return run.mark


@app.task
def raises_in_thread(ctx: Context[None], what: str, times: int) -> Result:
    with attempt(ctx) as run:
        if ctx.attempt <= times:
            _raise(what)
        return run.mark


@app.task(run_in="process")
def raises_in_process(ctx: Context[None], what: str, times: int) -> Result:
    with attempt(ctx) as run:
        if ctx.attempt <= times:
            _raise(what)
        return run.mark


def _raise(what: str) -> None:
    if what == "recursion":
        _raise(what)
    raise {
        "memory": MemoryError("by hand"),
        "exit": SystemExit(3),
        "interrupt": KeyboardInterrupt(),
        "cancelled": asyncio.CancelledError(),
    }[what]


@app.task
async def stubborn(ctx: Context[None], name: str) -> Result:
    """Ignore timeouts and cancellations, until the gate opens."""
    with attempt(ctx) as run:
        while not gate(name).exists():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(STEP_S)
        return run.mark


@app.task
def stubborn_in_thread(ctx: Context[None], name: str) -> Result:
    with attempt(ctx) as run:
        while not gate(name).exists():
            time.sleep(STEP_S)
        return run.mark


@app.task(run_in="process")
def stubborn_in_process(ctx: Context[None], name: str) -> Result:
    with attempt(ctx) as run:
        while not gate(name).exists():
            time.sleep(STEP_S)
        return run.mark


@app.task
async def zombie(ctx: Context[None], name: str, then: str) -> Result:
    """At the first attempt, go on after the gate as if nothing had happened; later ones just work, and wait for it."""
    with attempt(ctx) as run:
        if ctx.attempt > 1:
            while not gate(name).exists():  # noqa: ASYNC110 - another process opens it
                await asyncio.sleep(STEP_S)
            return run.mark
        while True:
            # The whole process is stopped somewhere in here. Nothing may tell this handler that its lease is over.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(STEP_S)
            if gate("woken").exists():
                break
        ctx.progress({**run.mark, "from": "the grave"})
        with contextlib.suppress(asyncio.CancelledError):
            await _raise_the_dead(ctx, run)
        run.effect("went on")
        if then == "fail":
            raise run.failure()
        return run.mark


async def _raise_the_dead(ctx: Context[None], run: Run) -> None:
    try:
        await ctx.enqueue(child.job(by=run.id, fence=run.fence))
    except Exception as error:
        run.write("child_refused", error=type(error).__name__)
    else:
        run.write("child_made")


@app.task
async def child(ctx: Context[None], by: str, fence: int) -> Result:
    """Made by another handler: the checker looks whether that one still had its lease."""
    with attempt(ctx) as run:
        return run.mark


@app.task
async def parent(ctx: Context[None], name: str) -> Result:
    """Make a child, then wait at the gate."""
    with attempt(ctx) as run:
        await ctx.enqueue(child.job(by=run.id, fence=run.fence))
        ctx.progress(run.mark)
        while not gate(name).exists():  # noqa: ASYNC110 - another process opens it
            await asyncio.sleep(STEP_S)
        return run.mark


@app.task
async def token(ctx: Context[None]) -> Result:
    """Have an effect, return, and die before the store can hear of it."""
    with attempt(ctx) as run:
        run.effect(ctx.idempotency_token)
        if ctx.attempt == 1:
            # After the handler has returned, in the loop's next turn: nearly always before its outcome is sent.
            asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGKILL)
        return run.mark


@app.task
async def exact(ctx: Context[None], die: str) -> None:
    """Have an effect in the jobs' database, complete in the same transaction, and die before or after the commit."""
    with attempt(ctx) as run:
        async with await psycopg.AsyncConnection.connect(os.environ["GOQUEUE_URL"]) as conn:
            await conn.execute("INSERT INTO public.exact_effect VALUES (%s, %s)", [ctx.job_id, run.fence])
            await ctx.complete_in(conn, run.mark)
            if die == "before the commit" and ctx.attempt == 1:
                os.kill(os.getpid(), signal.SIGKILL)
        if die == "after the commit":
            # After the handler has returned, in the loop's next turn: nearly always before its outcome is sent.
            asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGKILL)


if os.environ.get("GOQUEUE_TEST_RELEASE") == "next":
    # What a deploy does to arguments: this release knows `changed` under another signature, and one kind no longer.
    @app.task
    async def changed(ctx: Context[None], amount: int) -> Result:
        with attempt(ctx) as run:
            return {**run.mark, "amount": amount}
else:

    @app.task(kind="changed")
    async def changed_before(ctx: Context[None], name: str) -> Result:
        with attempt(ctx) as run:
            return {**run.mark, "name": name}

    @app.task
    async def retired(ctx: Context[None]) -> Result:
        with attempt(ctx) as run:
            return run.mark
