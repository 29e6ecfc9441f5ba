"""Questions and changes that a store answers about many jobs."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

import msgspec

from goqueue.model import limits
from goqueue.model.job import DEFAULT_TENANT, JobRecord, JobRef
from goqueue.model.state import JobState


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which jobs. Empty tuples do not restrict; all given conditions hold at once. Times: [after, before)."""

    tenant: str = DEFAULT_TENANT
    ids: tuple[str, ...] = ()
    states: tuple[JobState, ...] = ()
    queues: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    """Jobs that have every one of these tags."""
    created_after: datetime | None = None
    created_before: datetime | None = None
    finished_after: datetime | None = None
    """With one of these only final jobs: no other has finished."""
    finished_before: datetime | None = None


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """One page of jobs, newest id first."""

    filter: Filter = Filter()
    page_size: int = limits.PAGE_SIZE_DEFAULT
    before_id: str | None = None
    """Keyset: only ids smaller than this one (UUIDv7 sorts by time of creation)."""


class Page(msgspec.Struct, frozen=True):
    """Jobs in order. ``next_before_id`` is None on the last page; a page may be short and still have a next."""

    jobs: tuple[JobRecord, ...]
    next_before_id: str | None = None


class Count(msgspec.Struct, frozen=True):
    """Jobs of one queue in one state; an estimate when ``approximate``."""

    queue: str
    state: JobState
    count: int
    approximate: bool = False


# -- enqueue --------------------------------------------------------------------------------------


class EnqueueStatus(StrEnum):
    """What became of one job of an enqueue."""

    INSERTED = "inserted"
    EXISTS = "exists"
    """A job with this id is there already (an earlier try of the same enqueue, or another job: compare)."""
    DUPLICATE = "duplicate"
    """The unique key is held and on_conflict is ``return``; ``ref`` is the holder."""
    REPLACED = "replaced"
    """The holder, which had not started, took the new arguments, options and run_at; ``ref`` is the holder."""
    REJECTED = "rejected"
    """The unique key is held and on_conflict is ``reject``; ``ref`` is the holder."""


class Enqueued(msgspec.Struct, frozen=True, gc=False):
    """The answer to one job of an enqueue. Instants are given for ``inserted``, else None."""

    status: EnqueueStatus
    ref: JobRef
    created_at: datetime | None = None
    run_at: datetime | None = None


# -- changes --------------------------------------------------------------------------------------


class CancelJobs(msgspec.Struct, frozen=True, tag="cancel"):
    """Waiting and blocked jobs become cancelled at once; running ones are asked to stop."""

    reason: str = ""


class RetryJobs(msgspec.Struct, frozen=True, tag="retry"):
    """Final jobs become ready again, waiting ones are due now. Fence and attempt are kept.

    The first job of the selection is due in ``delay_s`` seconds, each further one ``every_s`` later than the one
    before: so many dead letters come back at a bounded rate, whoever is alive to work on them then. ``args`` (a JSON
    object, encoded) replaces the arguments of final jobs; a job that is not final keeps its own, and answers
    ``wrong_state``. ``version`` is that of these arguments, as `Task.upcast` has it; None: that of those before.
    """

    args: bytes | None = None
    delay_s: float = 0.0
    every_s: float = 0.0
    version: int | None = None


class DeleteJobs(msgspec.Struct, frozen=True, tag="delete"):
    """Waiting, blocked and final jobs vanish; running ones are refused."""


Change: TypeAlias = CancelJobs | RetryJobs | DeleteJobs


class Selection(msgspec.Struct, frozen=True):
    """Which jobs a change is for: by id. A change by filter pages with ``find`` and re-checks state where it writes."""

    tenant: str
    ids: tuple[str, ...]


class ChangeStatus(StrEnum):
    """What became of one job of a change."""

    CHANGED = "changed"
    REQUESTED = "requested"
    """A running job was asked to stop."""
    UNCHANGED = "unchanged"
    """It already is as wanted."""
    WRONG_STATE = "wrong_state"
    KEY_HELD = "key_held"
    """A retry needs the job's unique key, which another job holds now."""
    BUSY = "busy"
    """Somebody has the row locked: try again."""
    NOT_FOUND = "not_found"


class Changed(msgspec.Struct, frozen=True):
    """The answer for one id of a selection."""

    id: str
    status: ChangeStatus
