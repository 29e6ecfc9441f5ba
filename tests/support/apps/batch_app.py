"""An application whose handlers take many jobs at a time; one item ends the process that it is in, each time."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goqueue import BatchContext, GoQueue, RetryPolicy


@dataclass
class Document:
    n: int
    poison: bool = False


@asynccontextmanager
async def lifespan() -> AsyncIterator[str]:
    yield "state"


app = GoQueue(lifespan=lifespan, retry=RetryPolicy.fixed(0.05))


@app.batch_task(max_size=10, max_wait_s=0.2)
async def index(ctx: BatchContext[str], documents: Sequence[Document]) -> list[list[Any]]:
    await asyncio.sleep(0.01)
    if any(document.poison for document in documents):
        os._exit(9)
    return [[ctx.state, document.n, os.getpid(), len(ctx)] for document in documents]


@app.batch_task(max_size=10, max_wait_s=0.2, max_attempts=3)
def flaky(ctx: BatchContext[str], numbers: list[int]) -> list[int | Exception]:
    """Odd ones fail at their first attempt, negative ones at each."""
    return [
        ValueError(f"{number} at attempt {one.attempt}") if number < 0 or (number % 2 and one.attempt == 1) else number
        for number, one in zip(numbers, ctx.items, strict=True)
    ]


@app.batch_task(max_size=5, max_wait_s=0.5)
def hold(ctx: BatchContext[str], paths: list[str]) -> list[str | BaseException]:
    """Say that they run; end when all are told to stop, or a file is there."""
    for path in paths:
        Path(path).touch()
    while not Path(paths[0] + ".end").exists() and not ctx.cancelled:
        time.sleep(0.01)
    return [asyncio.CancelledError() if one.cancelled else "done" for one in ctx.items]
