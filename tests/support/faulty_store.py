"""A memory store that fails and waits where a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from goqueue.model.admin import Record
from goqueue.model.errors import StoreUnavailable
from goqueue.model.job import NewJob
from goqueue.model.query import Change, Changed, Enqueued, Selection
from goqueue.store.memory.store import MemoryStore

Hook = Callable[[], Awaitable[None]]


class FaultyStore(MemoryStore):
    """Counts the calls, and runs hooks before and after them. ``down`` makes every verb raise `StoreUnavailable`."""

    def __init__(self) -> None:
        super().__init__()
        self.down = False
        self.batches: list[list[NewJob[object]]] = []
        self.in_flight = 0
        self.in_flight_max = 0
        self.pings = 0
        self.before_enqueue: Callable[[Sequence[NewJob[object]]], Awaitable[None]] | None = None
        self.after_enqueue: Hook | None = None
        self.before_write: Hook | None = None
        self.before_change: Callable[[], list[Changed] | None] | None = None
        self.before_ping: Hook | None = None

    async def enqueue(self, jobs: Sequence[NewJob[object]], retry: bool = False) -> list[Enqueued]:
        """Enqueue, between the hooks."""
        self.batches.append(list(jobs))
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        try:
            self._check()
            if self.before_enqueue is not None:
                await self.before_enqueue(jobs)
            answers = await super().enqueue(jobs, retry)
            if self.after_enqueue is not None:
                await self.after_enqueue()
            return answers
        finally:
            self.in_flight -= 1

    async def change(self, selection: Selection, change: Change) -> list[Changed]:
        """Change, unless the hook has another answer."""
        self._check()
        if self.before_change is not None and (changed := self.before_change()) is not None:
            return changed
        return await super().change(selection, change)

    async def write(self, name: str, value: bytes, version: int, ttl_s: float | None = None) -> Record | None:
        """Write, after the hook."""
        self._check()
        if self.before_write is not None:
            await self.before_write()
        return await super().write(name, value, version, ttl_s)

    async def ping(self) -> None:
        """Answer, after the hook."""
        self.pings += 1
        if self.before_ping is not None:
            await self.before_ping()
        self._check()

    def _check(self) -> None:
        if self.down:
            raise StoreUnavailable("connection refused")


class Gate:
    """A place where calls wait until the test lets them go on, and the test until so many have come."""

    def __init__(self) -> None:
        self.arrived = 0
        self._open = asyncio.Event()
        self._changed = asyncio.Condition()

    async def pass_through(self, *_: object) -> None:
        """Wait here."""
        async with self._changed:
            self.arrived += 1
            self._changed.notify_all()
        await self._open.wait()

    async def wait_for(self, arrived: int) -> None:
        """Return when ``arrived`` calls have come in all."""
        async with asyncio.timeout(5), self._changed:
            await self._changed.wait_for(lambda: self.arrived >= arrived)

    def open(self) -> None:
        """Let everyone go on, also those who come later."""
        self._open.set()
