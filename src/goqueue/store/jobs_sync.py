# Generated from src/goqueue/store/jobs_async.py by scripts/unasync.py: change that and run `make generate`.
"""`JobStore`: the part of the port that clients need. `goqueue.store.jobs_sync` is generated from this file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from goqueue.model.job import JobRecord, JobRef, NewJob
    from goqueue.model.query import Change, Changed, Count, Enqueued, Filter, Page, Query, Selection


class JobStore(Protocol):
    """Store, find and change jobs. Lists in and lists out, one round trip each, answers in input order.

    Every verb raises `StoreUnavailable` when the store does not answer within its deadline.
    """

    def enqueue(self, jobs: Sequence[NewJob[object]], retry: bool = False) -> list[Enqueued]:
        """Store jobs that `goqueue.tasks.prepare` has made ready: id and key digest set, every bound kept.

        All or nothing: one transaction, at most `limits.BATCH_MAX` jobs. ``retry=True`` says that an earlier try may
        have been committed: an id that exists, also in history, answers ``exists`` and stores nothing.
        Without it an id that is not final answers ``exists`` too; one that is already history may be stored again.
        """
        ...

    def change(self, selection: Selection, change: Change) -> list[Changed]:
        """Cancel, retry or delete jobs by id, each by itself: one that is locked answers ``busy`` and holds up none."""
        ...

    def find(self, query: Query) -> Page:
        """Return one page of jobs, newest first, live and history together."""
        ...

    def count(self, filter: Filter) -> list[Count]:
        """Count jobs that are not final per (queue, state): exact to `limits.COUNT_EXACT_MAX`, beyond it an estimate.

        Only ``tenant``, ``queues`` and ``states`` of the filter are used.
        """
        ...

    def history(self, refs: Sequence[JobRef]) -> list[JobRecord | None]:
        """Return the records of jobs that are final, None for those that are not (or that do not exist)."""
        ...

    def get(self, tenant: str, ids: Sequence[str]) -> list[JobRecord | None]:
        """Return jobs by id, live or history; None for an id that does not exist."""
        ...

    def open(self) -> None:
        """Connect and check the schema. Idempotent."""
        ...

    def close(self) -> None:
        """Give back all connections. Idempotent; the store cannot be used afterwards."""
        ...

    def abandon(self) -> None:
        """Give back all connections at once, without waiting for anything: the loop they were used on is closed."""
        ...
