"""`Leader`: at most one process at a time does a duty."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import structlog

from goqueue.duties.loop import Loop
from goqueue.model.errors import PermissionDenied, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from goqueue.model.admin import Term
    from goqueue.store.port import AdminStore

REST_S: Final = 600.0
"""A process that lacks the rights for a duty does not stand for it again before this has passed."""

log = structlog.get_logger("goqueue.duties")


class Leader:
    """Stands for election every third of ``ttl_s``. `is_leader` is true only while the term surely holds.

    A term counts from before its request was sent. It may lapse in the middle of a piece of upkeep, and another may
    lead by then: so each piece names its `term`, and the store does nothing under one that is not the present one.
    """

    def __init__(
        self,
        store: AdminStore,
        *,
        name: str,
        holder: str,
        ttl_s: float,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._store = store
        self._holder = holder
        self._ttl_s = ttl_s
        self._now_s = now_s
        self._elected = asyncio.Event()
        self._until_s = 0.0
        self._term: Term | None = None
        self._rests_until_s = float("-inf")
        self._one_at_a_time = asyncio.Lock()
        self._loop = Loop(f"elect_{name}", ttl_s / 3, self.stand)

    @property
    def is_leader(self) -> bool:
        """Whether this process leads now."""
        return self._now_s() < self._until_s

    @property
    def term(self) -> Term | None:
        """The term that was won last, lapsed or not; None before the first, and after it was resigned or deposed."""
        return self._term

    async def until_elected(self) -> None:
        """Wait until this process leads."""
        while not self.is_leader:
            self._elected.clear()  # its last term may have lapsed without anybody noticing
            await self._elected.wait()

    def start(self) -> None:
        """Stand for election from now on."""
        self._loop.start()

    async def stop(self) -> None:
        """Stand no more, and resign so that another can take over at once. Idempotent."""
        await self._loop.stop()
        await self._resign()

    async def rest(self, rest_s: float = REST_S) -> None:
        """Resign, and do not stand again for ``rest_s``: others may be able to do what this process is not."""
        self._rests_until_s = self._now_s() + rest_s
        await self._resign()

    def deposed(self, term: Term | None) -> None:
        """Step down at once: the store has said that ``term`` is not the present one any more."""
        if term is not self._term:
            return  # has been elected again since
        log.warning("depose", duty=self.name, holder=self._holder, term=term.number if term is not None else None)
        self._until_s, self._term = 0.0, None

    async def stand(self) -> None:
        """Stand for election once."""
        # Alone, so that a term that is on its way here when this process resigns is seen, and resigned from.
        async with self._one_at_a_time:
            sent_at_s = self._now_s()
            if sent_at_s < self._rests_until_s:
                return
            try:
                term = await self._store.elect(self.name, self._holder, self._ttl_s)
            except PermissionDenied as error:
                self._rests_until_s = sent_at_s + REST_S
                log.warning("elect", duty=self.name, error=str(error), again_in_s=REST_S)
                return
            if term is None:
                self._until_s, self._term = 0.0, None
                return
            if not self.is_leader:
                log.info("lead", duty=self.name, holder=self._holder, term=term.number)
            self._term = term
            self._until_s = sent_at_s + self._ttl_s
            self._elected.set()

    async def _resign(self) -> None:
        async with self._one_at_a_time:
            if not self.is_leader:
                return
            self._until_s, self._term = 0.0, None
            try:
                await self._store.elect(self.name, self._holder, 0.0)
            except Unavailable as error:
                log.warning("resign", duty=self.name, error=str(error))
