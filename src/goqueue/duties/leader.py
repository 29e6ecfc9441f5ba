"""`Leader`: at most one process at a time does the upkeep."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from goqueue.duties.loop import Loop
from goqueue.model.errors import Unavailable

if TYPE_CHECKING:
    from goqueue.store.port import AdminStore

log = structlog.get_logger("goqueue.duties")


class Leader:
    """Stands for election every third of ``ttl_s``. `is_leader` is true only while the term surely holds.

    A term counts from before its request was sent. Upkeep is safe even with two leaders, only wasteful: a term that
    lapses in the middle of a piece of it does no harm.
    """

    def __init__(self, store: AdminStore, *, name: str, holder: str, ttl_s: float) -> None:
        self.elected = asyncio.Event()
        """Set while this process leads, as far as the last election told."""
        self._store = store
        self._name = name
        self._holder = holder
        self._ttl_s = ttl_s
        self._until = 0.0
        self._loop = Loop("elect", ttl_s / 3, self.stand)

    @property
    def is_leader(self) -> bool:
        """Whether this process leads now."""
        return time.monotonic() < self._until

    def start(self) -> None:
        """Stand for election from now on."""
        self._loop.start()

    async def stop(self) -> None:
        """Stand no more, and resign so that another can take over at once. Idempotent."""
        await self._loop.stop()
        if self.is_leader:
            self._until = 0.0
            self.elected.clear()
            try:
                await self._store.elect(self._name, self._holder, 0.0)
            except Unavailable as error:
                log.warning("resign", error=str(error))

    async def stand(self) -> None:
        """Stand for election once."""
        sent_at = time.monotonic()
        term = await self._store.elect(self._name, self._holder, self._ttl_s)
        if term is None:
            self._until = 0.0
            self.elected.clear()
            return
        if not self.is_leader:
            log.info("lead", name=self._name, holder=self._holder, term=term.number)
        self._until = sent_at + self._ttl_s
        self.elected.set()
