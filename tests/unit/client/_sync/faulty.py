# Generated from tests/unit/client/_async/faulty.py by scripts/unasync.py: change that and run `make generate`.
"""A store that fails on demand, around one that does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from goqueue.client._sync.client import Client
from goqueue.client._sync.primitives import sleep
from goqueue.model.errors import StoreUnavailable
from goqueue.model.job import JobRecord, JobRef, NewJob
from goqueue.model.query import (
    Change,
    Changed,
    ChangeStatus,
    Count,
    Enqueued,
    Filter,
    Page,
    Query,
    Selection,
)
from goqueue.settings import ClientSettings
from goqueue.store.memory.core import Memory
from goqueue.store.memory.sync import SyncMemoryStore
from goqueue.tasks.app import GoQueue
from tests.unit.client.hand import FAST


class FaultyStore:
    """Passes all on to a memory store, notes what was asked, and fails as often as its fields say."""

    def __init__(self, memory: Memory) -> None:
        self.inner = SyncMemoryStore(memory)
        self.answers_to_lose = 0
        self.enqueues_to_refuse = 0
        self.polls_to_refuse = 0
        self.opens_to_refuse = 0
        self.changes_busy = 0
        self.changes_to_allow: int | None = None
        self.changes: list[tuple[Selection, Change]] = []
        self.enqueues: list[tuple[tuple[str, ...], bool]] = []
        self.polls: list[tuple[JobRef, ...]] = []
        self.opens = 0
        self.closes = 0
        self.abandons = 0
        self.on_poll: Callable[[int], None] = lambda _: None

    def enqueue(self, jobs: Sequence[NewJob[object]], retry: bool = False) -> list[Enqueued]:
        self.enqueues.append((tuple(job.id for job in jobs), retry))
        if self.enqueues_to_refuse:
            self.enqueues_to_refuse -= 1
            raise StoreUnavailable("refused")
        answers = self.inner.enqueue(jobs, retry)
        if self.answers_to_lose:
            self.answers_to_lose -= 1
            raise StoreUnavailable("the answer was lost")
        return answers

    def change(self, selection: Selection, change: Change) -> list[Changed]:
        if self.changes_busy:
            self.changes_busy -= 1
            return [Changed(job_id, ChangeStatus.BUSY) for job_id in selection.ids]
        if len(self.changes) == self.changes_to_allow:
            raise StoreUnavailable("refused")
        self.changes.append((selection, change))
        return self.inner.change(selection, change)

    def find(self, query: Query) -> Page:
        return self.inner.find(query)

    def count(self, filter: Filter) -> list[Count]:
        return self.inner.count(filter)

    def history(self, refs: Sequence[JobRef]) -> list[JobRecord | None]:
        self.polls.append(tuple(refs))
        self.on_poll(len(self.polls))
        if self.polls_to_refuse:
            self.polls_to_refuse -= 1
            raise StoreUnavailable("refused")
        return self.inner.history(refs)

    def get(self, tenant: str, ids: Sequence[str]) -> list[JobRecord | None]:
        return self.inner.get(tenant, ids)

    def open(self) -> None:
        self.opens += 1
        sleep(0)  # let the others run
        if self.opens_to_refuse:
            self.opens_to_refuse -= 1
            raise StoreUnavailable("refused")
        self.inner.open()

    def close(self) -> None:
        self.closes += 1

    def abandon(self) -> None:
        self.abandons += 1


class World:
    """A client, its store and the memory below."""

    def __init__(self, app: GoQueue | None = None, *, settings: ClientSettings = FAST) -> None:
        self.memory = Memory()
        self.store = FaultyStore(self.memory)
        self.client = Client(app, connect=lambda: self.store, settings=settings)

    def stored(self) -> list[str]:
        """Ids of all jobs, in order of creation."""
        with self.memory._lock:
            return sorted(row.job.id for row in self.memory.all("default"))
