"""`SyncMemoryStore`: the memory store for a sync client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from goqueue.model.errors import StoreUnavailable
from goqueue.store.memory import asking, enqueueing
from goqueue.store.memory.core import Memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from goqueue.model.job import JobRecord, JobRef, NewJob
    from goqueue.model.query import Change, Changed, Count, Enqueued, Filter, Page, Query, Selection
    from goqueue.store.jobs_sync import JobStore


class SyncMemoryStore:
    """The sync twin of the client's part of `MemoryStore`. Usable from any thread."""

    def __init__(self, memory: Memory | None = None) -> None:
        self.memory = memory or Memory()
        self._closed = False

    def enqueue(self, jobs: Sequence[NewJob[object]], retry: bool = False) -> list[Enqueued]:
        """Store jobs."""
        with self._open().verb():
            return enqueueing.enqueue(self.memory, jobs, retry)

    def change(self, selection: Selection, change: Change) -> list[Changed]:
        """Cancel, retry or delete jobs by id."""
        with self._open().verb():
            return asking.change(self.memory, selection, change)

    def find(self, query: Query) -> Page:
        """Return one page of jobs."""
        with self._open().verb():
            return asking.find(self.memory, query)

    def count(self, filter: Filter) -> list[Count]:
        """Count jobs that are not final."""
        with self._open().verb():
            return asking.count(self.memory, filter)

    def history(self, refs: Sequence[JobRef]) -> list[JobRecord | None]:
        """Return jobs that are final."""
        with self._open().verb():
            return asking.history(self.memory, refs)

    def get(self, tenant: str, ids: Sequence[str]) -> list[JobRecord | None]:
        """Return jobs by id."""
        with self._open().verb():
            return asking.get(self.memory, tenant, ids)

    def open(self) -> None:
        """Do nothing: there is nothing to connect to."""
        self._open()

    def close(self) -> None:
        """Refuse further calls. The jobs stay in `Memory` for whoever shares it."""
        self._closed = True

    def abandon(self) -> None:
        """Refuse further calls."""
        self._closed = True

    def _open(self) -> Memory:
        if self._closed:
            raise StoreUnavailable("this store was closed: make a new one")
        return self.memory


if TYPE_CHECKING:

    def _is_a_job_store(store: SyncMemoryStore) -> JobStore:
        return store
