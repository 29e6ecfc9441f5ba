"""What really differs between the clients: signals, locks, sleeping, gathering, taking, sending ahead.

Its twin in ``_async`` is written by hand too.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from itertools import islice
from threading import Lock
from time import sleep
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from goqueue.model.job import NewJob
    from goqueue.model.query import Enqueued
    from goqueue.store.jobs_sync import JobStore

__all__ = ["Gatherer", "Items", "Lock", "Place", "Sending", "Signal", "Source", "sleep"]

T = TypeVar("T")

Items: TypeAlias = Iterable[T]
"""What many things are taken from, one after the other."""


class Source(Generic[T]):
    """Takes from an iterable."""

    def __init__(self, items: Items[T]) -> None:
        self._items = iter(items)

    def take(self, count: int) -> list[T]:
        """Return the next ones, at most ``count``; fewer only at the end."""
        return list(islice(self._items, count))


class Place:
    """Any thread of the process will do."""

    @classmethod
    def here(cls) -> Self:
        """This process."""
        return cls()

    def is_here(self) -> bool:
        """Always."""
        return True

    def is_over(self) -> bool:
        """Never."""
        return False


class Sending(Generic[T]):
    """Sends in a thread while its block prepares what comes next; after the block ``result`` is the answer.

    With ``beside`` False it sends before the block instead. An error of the sending comes at the end of the block,
    also over one of the block's own: what was sent comes first.
    """

    def __init__(self, send: Callable[[], list[T]], *, beside: bool) -> None:
        self.result: list[T] = []
        self._send = send
        self._beside = beside
        self._sent: Future[list[T]] | None = None

    def __enter__(self) -> Self:
        if self._beside:
            self._sent = Future()
            run = contextvars.copy_context().run
            threading.Thread(target=run, args=(self._run, self._sent), name="goqueue-enqueue", daemon=True).start()
        else:
            self.result = self._send()
        return self

    def __exit__(self, *_: object) -> None:
        if self._sent is not None:
            self.result = self._sent.result()  # the store's deadlines end it

    def _run(self, sent: Future[list[T]]) -> None:
        try:
            sent.set_result(self._send())
        except BaseException as error:
            sent.set_exception(error)


class Gatherer:
    """Threads gather nothing: each stores its job by a statement of its own, on a connection of its own."""

    def __init__(self, store: JobStore, *, batch_max: int, waiting_max: int) -> None:  # noqa: ARG002
        self._store = store

    def submit(self, job: NewJob[object]) -> Enqueued:
        """Store one job."""
        return self._store.enqueue([job])[0]

    def close(self, grace_s: float) -> None:
        """Nothing waits here."""


class Signal:
    """An event that can be awaited with a time limit."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Wake who waits, now or later."""
        self._event.set()

    def clear(self) -> None:
        """Forget that it was set."""
        self._event.clear()

    def wait(self, timeout_s: float | None) -> bool:
        """Wait until it is set; False if that took longer than ``timeout_s``."""
        return self._event.wait(timeout_s)
