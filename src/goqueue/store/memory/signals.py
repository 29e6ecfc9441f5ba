"""Wake-ups from a `Memory`, for one event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from goqueue.model.lease import Signal
    from goqueue.store.memory.core import Memory


class Signals:
    """An async iterator of signals. It listens from the moment that it is made; wake-ups that wait are merged."""

    def __init__(self, memory: Memory, tenant: str, queues: Sequence[str]) -> None:
        self._memory = memory
        self._loop = asyncio.get_running_loop()
        self._tenant = tenant
        self._queues = frozenset(queues)
        self._waiting: dict[Signal, None] = {}
        self._changed = asyncio.Event()
        self._ended = False
        with memory.verb():
            memory.listeners[self] = self._hear

    def __aiter__(self) -> Signals:
        return self

    async def __anext__(self) -> Signal:
        """Return the next wake-up."""
        while not self._waiting:
            if self._ended:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        signal = next(iter(self._waiting))
        del self._waiting[signal]
        return signal

    async def aclose(self) -> None:
        """Stop listening."""
        self.end()

    def end(self) -> None:
        """Stop listening; whoever waits is told that there is no more."""
        with self._memory.verb():
            self._memory.listeners.pop(self, None)
        self._ended = True
        self._waiting.clear()
        self._changed.set()

    def _hear(self, tenant: str, signal: Signal) -> None:
        # Another thread may be the enqueuer: only the loop's own may touch its event.
        wanted = tenant == self._tenant and (signal.cancels or signal.queue in self._queues)
        if wanted and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._note, signal)

    def _note(self, signal: Signal) -> None:
        if not self._ended:
            self._waiting[signal] = None
            self._changed.set()
