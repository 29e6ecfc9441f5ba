"""What really differs between the clients: signals, locks, sleeping, gathering, taking, sending ahead.

Its twin in ``_sync`` is written by hand too.
"""

from __future__ import annotations

import asyncio
from asyncio import Lock, sleep
from collections.abc import AsyncIterable, Iterable
from itertools import islice
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from goqueue.store.gather import Gatherer

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Self

__all__ = ["Gatherer", "Items", "Lock", "Place", "Sending", "Signal", "Source", "sleep"]

T = TypeVar("T")

Items: TypeAlias = Iterable[T] | AsyncIterable[T]
"""What many things are taken from, one after the other."""


class Source(Generic[T]):
    """Takes from an iterable of either kind."""

    def __init__(self, items: Items[T]) -> None:
        self._later = aiter(items) if isinstance(items, AsyncIterable) else None
        self._now = iter(()) if isinstance(items, AsyncIterable) else iter(items)

    async def take(self, count: int) -> list[T]:
        """Return the next ones, at most ``count``; fewer only at the end."""
        if self._later is None:
            return list(islice(self._now, count))
        taken: list[T] = []
        while len(taken) < count:
            try:
                taken.append(await anext(self._later))
            except StopAsyncIteration:
                break
        return taken


class Place:
    """The event loop that a store is open on: its connections wait there, and nowhere else."""

    __slots__ = ("_loop",)

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop

    @classmethod
    def here(cls) -> Self:
        """The loop that runs now."""
        return cls(asyncio.get_running_loop())

    def is_here(self) -> bool:
        """Tell whether this loop runs now."""
        return self._loop is asyncio.get_running_loop()

    def is_over(self) -> bool:
        """Tell whether nothing can happen on it any more."""
        return self._loop is None or self._loop.is_closed()


class Sending(Generic[T]):
    """Sends while its block prepares what comes next; after the block ``result`` is the answer.

    With ``beside`` False it sends before the block instead. An error of the sending comes at the end of the block,
    also over one of the block's own: what was sent comes first.
    """

    def __init__(self, send: Callable[[], Coroutine[object, object, list[T]]], *, beside: bool) -> None:
        self.result: list[T] = []
        self._send = send
        self._beside = beside
        self._task: asyncio.Task[list[T]] | None = None

    async def __aenter__(self) -> Self:
        if self._beside:
            self._task = asyncio.create_task(self._send())
        else:
            self.result = await self._send()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._task is None:
            return
        if kind is not None and issubclass(kind, asyncio.CancelledError):
            self._task.cancel()
        self.result = await self._task


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
