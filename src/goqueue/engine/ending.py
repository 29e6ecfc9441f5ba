"""Ends tasks for certain, although a cancellation can get lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

CANCEL_AGAIN_S: Final = 0.5
"""A task that has not ended this long after its cancellation is cancelled again."""


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:  # any result: nobody looks at it
    """Cancel until all have ended; what they return or raise is left in them.

    Python 3.11's `asyncio.wait_for`, which the pool of connections uses, swallows a cancellation that comes in the same
    turn as what it waits for.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_S)
