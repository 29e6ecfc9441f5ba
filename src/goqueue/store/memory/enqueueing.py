"""Enqueue: new jobs, ids that exist, unique keys."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

import msgspec

from goqueue.model.errors import LeaseLost
from goqueue.model.job import OnConflict
from goqueue.model.query import Enqueued, EnqueueStatus
from goqueue.model.state import StoredState
from goqueue.store.memory.row import Row
from goqueue.store.memory.working import running_under

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from goqueue.model.job import JobRef, NewJob, Unique
    from goqueue.store.memory.core import Memory


def enqueue(memory: Memory, jobs: Sequence[NewJob[object]], retry: bool) -> list[Enqueued]:
    """Store jobs in their order, as if each were enqueued alone: a later one meets what an earlier one has done."""
    return [_enqueue_one(memory, job, retry) for job in jobs]


def enqueue_by(memory: Memory, jobs: Sequence[NewJob[object]], by: JobRef, fence: int) -> list[Enqueued]:
    """Store jobs only while the lease holds."""
    row = running_under(memory, by, fence)
    if row is None or not memory.alive(by.tenant, row.worker_id):
        raise LeaseLost(f"the lease of job {by.id} under fence {fence} does not hold any more: nothing was enqueued")
    return enqueue(memory, jobs, retry=False)


def _enqueue_one(memory: Memory, job: NewJob[object], retry: bool) -> Enqueued:
    # The id comes before the key: a blind retry must meet itself, not a conflict with itself.
    if (job.tenant, job.id) in memory.live or (retry and memory.history(job.tenant, job.id) is not None):
        return Enqueued(EnqueueStatus.EXISTS, job.ref)
    row = Row(
        job=job,
        created_at=memory.now(),
        run_at=_due(memory, job),
        max_attempts=job.max_attempts,
        max_crashes=job.max_crashes,
        deadline_at=_deadline(memory, job),
    )
    if row.key is not None and job.unique is not None:
        holder = memory.holder(row.key)
        if holder is not None and holder.id == job.id:
            return Enqueued(EnqueueStatus.EXISTS, job.ref)  # it has run, and its key is all that is left of it
        if holder is not None:
            return _conflict(memory, holder, job, job.unique)
    memory.live[job.tenant, job.id] = row
    memory.hold_key(row)
    memory.wake(row)
    return Enqueued(EnqueueStatus.INSERTED, job.ref, row.created_at, row.run_at)


def _conflict(memory: Memory, holder: JobRef, job: NewJob[object], unique: Unique) -> Enqueued:
    if unique.on_conflict == OnConflict.REJECT:
        return Enqueued(EnqueueStatus.REJECTED, holder)
    row = memory.live.get((holder.tenant, holder.id))
    waits = row is not None and row.state in (StoredState.WAITING, StoredState.BLOCKED)
    if unique.on_conflict == OnConflict.RETURN or row is None or not waits:
        return Enqueued(EnqueueStatus.DUPLICATE, holder)
    _replace(memory, row, job, keep_run_at=unique.keep_run_at)
    return Enqueued(EnqueueStatus.REPLACED, holder)


def _replace(memory: Memory, holder: Row, job: NewJob[object], *, keep_run_at: bool) -> None:
    """Give the holder all that the new job asks for, except who it is and what it has been through."""
    holder.job = msgspec.structs.replace(job, id=holder.job.id, unique=holder.job.unique)
    if not keep_run_at:
        holder.run_at = _due(memory, job)
    holder.deadline_at = _deadline(memory, job)
    holder.max_attempts = max(job.max_attempts, holder.attempt + 1)
    holder.max_crashes = job.max_crashes
    holder.reason = None
    memory.wake(holder)


def _due(memory: Memory, job: NewJob[object]) -> datetime:
    """Return when a new job is due: never before now, so that nobody jumps the queue with an old instant."""
    if job.run_at is not None:
        return max(job.run_at.astimezone(UTC), memory.now())
    return memory.later(job.delay_s or 0.0)


def _deadline(memory: Memory, job: NewJob[object]) -> datetime | None:
    return None if job.deadline_s is None else memory.later(job.deadline_s)
