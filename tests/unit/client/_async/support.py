"""What really differs between the tests of the two clients. Its twin in ``_sync`` is written by hand too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def together(*calls: Callable[[], Awaitable[T]]) -> list[T | BaseException]:
    """Start all calls at once; return their results, or what they raised, in order."""
    async with asyncio.timeout(30):
        return await asyncio.gather(*(call() for call in calls), return_exceptions=True)


async def listed(items: AsyncIterator[T]) -> list[T]:
    """Return all that an iterator yields."""
    return [item async for item in items]
