"""An application with a lifespan, in which one job ends the process that it runs in, each time."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from goqueue import Context, GoQueue


@asynccontextmanager
async def lifespan() -> AsyncIterator[str]:
    yield "state"


app = GoQueue(lifespan=lifespan)


@app.task
async def fine(ctx: Context[str], n: int) -> list[object]:
    await asyncio.sleep(0.05)
    return [ctx.state, n, os.getpid()]


@app.task
def fine_in_thread(ctx: Context[str], n: int) -> list[object]:
    time.sleep(0.05)
    return [ctx.state, n, os.getpid()]


@app.task
async def poison(ctx: Context[str]) -> None:
    assert ctx.state == "state"
    os._exit(9)
