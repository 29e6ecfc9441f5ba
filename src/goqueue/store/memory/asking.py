"""What clients ask and change: get, find, count, history; cancel, retry, delete."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, assert_never

import msgspec

from goqueue.model import limits
from goqueue.model.job import VERSION_KEY
from goqueue.model.lease import Signal
from goqueue.model.query import CancelJobs, Changed, ChangeStatus, Count, DeleteJobs, Page, RetryJobs
from goqueue.model.state import Event, StoredState
from goqueue.store.memory.core import CANCELLED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from goqueue.model.job import JobRecord, JobRef
    from goqueue.model.query import Change, Filter, Query, Selection
    from goqueue.store.memory.core import Memory
    from goqueue.store.memory.row import Row


def get(memory: Memory, tenant: str, ids: Sequence[str]) -> list[JobRecord | None]:
    """Return jobs by id."""
    rows = (memory.find(tenant, job_id) for job_id in ids)
    return [None if row is None else row.record(memory.now()) for row in rows]


def history(memory: Memory, refs: Sequence[JobRef]) -> list[JobRecord | None]:
    """Return jobs that are final."""
    rows = (memory.find(ref.tenant, ref.id) for ref in refs)
    return [row.record(memory.now()) if row is not None and row.final else None for row in rows]


def find(memory: Memory, query: Query) -> Page:
    """Return one page, newest id first."""
    now = memory.now()
    size = min(max(query.page_size, 1), limits.PAGE_SIZE_MAX)
    rows = sorted(
        (
            row
            for row in memory.all(query.filter.tenant)
            if (query.before_id is None or row.job.id < query.before_id) and _matches(row, query.filter, now)
        ),
        key=lambda row: row.job.id,
        reverse=True,
    )
    page = tuple(row.record(now) for row in rows[:size])
    return Page(page, page[-1].id if len(rows) > size else None)


def _matches(row: Row, wanted: Filter, now: datetime) -> bool:
    return (
        (not wanted.ids or row.job.id in wanted.ids)
        and (not wanted.states or row.public(now) in wanted.states)
        and (not wanted.queues or row.job.queue in wanted.queues)
        and (not wanted.kinds or row.job.kind in wanted.kinds)
        and set(wanted.tags) <= set(row.job.tags)
        and (wanted.created_after is None or row.created_at >= wanted.created_after)
        and (wanted.created_before is None or row.created_at < wanted.created_before)
        and _finished_between(row, wanted.finished_after, wanted.finished_before)
    )


def _finished_between(row: Row, after: datetime | None, before: datetime | None) -> bool:
    if after is None and before is None:
        return True
    at = row.finished_at
    return at is not None and (after is None or at >= after) and (before is None or at < before)


def count(memory: Memory, wanted: Filter) -> list[Count]:
    """Count jobs that are not final."""
    now = memory.now()
    counter = Counter(
        (row.job.queue, row.public(now))
        for (tenant, _), row in memory.live.items()
        if tenant == wanted.tenant
        and (not wanted.queues or row.job.queue in wanted.queues)
        and (not wanted.states or row.public(now) in wanted.states)
    )
    return [Count(queue, state, number) for (queue, state), number in sorted(counter.items())]


# -- change ---------------------------------------------------------------------------------------


def change(memory: Memory, selection: Selection, change: Change) -> list[Changed]:
    """Change jobs by id, each by itself."""
    return [
        Changed(job_id, _change_one(memory, memory.find(selection.tenant, job_id), change, place))
        for place, job_id in enumerate(selection.ids)
    ]


def _change_one(memory: Memory, row: Row | None, change: Change, place: int) -> ChangeStatus:
    if row is None:
        return ChangeStatus.NOT_FOUND
    match change:
        case CancelJobs():
            return _cancel(memory, row, change.reason)
        case RetryJobs():
            return _retry(memory, row, change, memory.later(change.delay_s + place * change.every_s))
        case DeleteJobs():
            if row.state is StoredState.RUNNING:
                return ChangeStatus.WRONG_STATE
            memory.remove(row)
            return ChangeStatus.CHANGED
        case _:
            assert_never(change)


def _cancel(memory: Memory, row: Row, reason: str) -> ChangeStatus:
    if row.state is StoredState.CANCELLED:
        return ChangeStatus.UNCHANGED
    if row.final:
        return ChangeStatus.WRONG_STATE
    running = row.state is StoredState.RUNNING
    if running and row.cancel_requested_at is not None:
        return ChangeStatus.UNCHANGED
    row.move(Event.CANCEL_REQUEST)
    row.cancel_requested_at = memory.now()
    if running:
        memory.notify(row.job.tenant, Signal(cancels=True))
        return ChangeStatus.REQUESTED
    memory.finish(row, reason=reason or CANCELLED)
    return ChangeStatus.CHANGED


def _retry(memory: Memory, row: Row, change: RetryJobs, run_at: datetime) -> ChangeStatus:
    if row.state in (StoredState.RUNNING, StoredState.BLOCKED) or (change.args is not None and not row.final):
        return ChangeStatus.WRONG_STATE
    if not row.final and row.run_at <= run_at:
        return ChangeStatus.UNCHANGED
    if row.final and not memory.hold_key(row):
        return ChangeStatus.KEY_HELD
    if row.final:
        memory.live[row.job.tenant, row.job.id] = memory.past.pop((row.job.tenant, row.job.id))
    row.move(Event.RETRY_REQUEST)
    # The next attempt must be able to end as it likes, also by a crash.
    row.max_attempts = max(row.max_attempts, row.attempt + 1)
    row.max_crashes = max(row.max_crashes, row.crashes + 1)
    row.finished_at = row.expires_at = row.cancel_requested_at = None
    row.first_attempted_at = row.result = row.reason = None
    if memory.expired(row.deadline_at):
        row.deadline_at = None  # somebody wants it all the same
    if change.args is not None:
        meta = row.job.meta
        if change.version is not None:
            meta = {key: value for key, value in meta.items() if key != VERSION_KEY}
            meta |= {VERSION_KEY: str(change.version)} if change.version > 1 else {}
        row.job = msgspec.structs.replace(row.job, args=change.args, meta=meta)
    memory.wait(row, run_at)
    return ChangeStatus.CHANGED
