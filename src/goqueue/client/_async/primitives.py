"""What really differs between the clients: signals, locks, sleeping, gathering.

Its twin in ``_sync`` is written by hand too.
"""

from __future__ import annotations

import asyncio
from asyncio import Lock, sleep

from goqueue.store.gather import Gatherer

__all__ = ["Gatherer", "Lock", "Signal", "sleep"]


class Signal:
    """An event that can be awaited with a time limit."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """Wake who waits, now or later."""
        self._event.set()

    def clear(self) -> None:
        """Forget that it was set."""
        self._event.clear()

    async def wait(self, timeout_s: float | None) -> bool:
        """Wait until it is set; False if that took longer than ``timeout_s``."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return False
        return True
