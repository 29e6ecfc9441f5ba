"""Batched handlers that can run in any process: importable, as those must be."""

from __future__ import annotations

import os
from collections.abc import Sequence

from goqueue.tasks.app import GoQueue
from goqueue.tasks.batch import BatchContext
from goqueue.tasks.retry import RetryPolicy

app = GoQueue(retry=RetryPolicy.fixed(3600.0))


@app.batch_task(max_size=10)
async def where(ctx: BatchContext[None], items: Sequence[int]) -> list[list[int]]:
    """Tell the process, the size of the batch, the item and the attempt."""
    return [[os.getpid(), len(items), item, one.attempt] for item, one in zip(items, ctx.items, strict=True)]


@app.batch_task(max_size=10)
def where_plain(items: list[int]) -> list[list[int]]:
    """The same in a thread."""
    return [[os.getpid(), len(items), item] for item in items]


@app.batch_task(max_size=10)
def poison(items: list[int]) -> list[int]:
    """End the process."""
    os._exit(items[0])
