"""Is the store there? Asked often by load balancers, so the answer is shared."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from goqueue.model.errors import GoQueueError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from goqueue.store.port import AdminStore


class Health:
    """Ready means: the store answered within the last ``ready_s`` seconds, to anyone.

    When nobody has heard of it for that long, one probe is sent, and everyone who asks meanwhile waits for that one:
    a database that is down is not also flooded with probes.
    """

    def __init__(self, store: AdminStore, *, ready_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._ready_s = ready_s
        self._clock = clock
        self._heard_at: float | None = None
        self._probe: asyncio.Task[None] | None = None

    def heard(self, ok: bool) -> None:
        """Take note that the store answered a request, or did not."""
        self._heard_at = self._clock() if ok else None

    async def check(self) -> None:
        """Return when the store answered recently; else probe it, and raise `StoreUnavailable` if that fails."""
        if self._heard_at is not None and self._clock() - self._heard_at <= self._ready_s:
            return
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._ping(), name="goqueue.probe")
        # Shielded: the probe belongs to all who wait, not to the first of them.
        await asyncio.shield(self._probe)

    async def close(self) -> None:
        """Give up a probe that is still under way."""
        if self._probe is not None and not self._probe.done():
            self._probe.cancel()
            await asyncio.wait([self._probe])

    async def _ping(self) -> None:
        started = self._clock()
        try:
            async with asyncio.timeout(self._ready_s):
                await self._store.ping()
        except TimeoutError:
            self._heard_at = None
            raise StoreUnavailable(f"the store did not answer within {self._ready_s:g} s") from None
        except GoQueueError:
            self._heard_at = None
            raise
        self._heard_at = started
