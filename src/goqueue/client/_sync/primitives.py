"""What really differs between the clients: signals, locks, sleeping, gathering.

Its twin in ``_async`` is written by hand too.
"""

from __future__ import annotations

import threading
from threading import Lock
from time import sleep
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from goqueue.model.job import NewJob
    from goqueue.model.query import Enqueued
    from goqueue.store.jobs_sync import JobStore

__all__ = ["Gatherer", "Lock", "Signal", "sleep"]


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
