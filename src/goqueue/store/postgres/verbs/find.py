"""Find and count jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from goqueue.model import limits
from goqueue.model.query import Count, Page
from goqueue.model.state import FINAL_STATES, JobState, StoredState
from goqueue.store.postgres import pack
from goqueue.store.postgres.rows import earliest_expiry, job_record
from goqueue.store.postgres.statement import Plan, Statement

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from goqueue.model.job import JobRecord, JobRef
    from goqueue.model.query import Filter, Query

LOOK_MAX: Final = 10_000
"""Rows that one page looks at in each table. A page may so be short and still have a next."""
LAST_ID: Final = "ffffffff-ffff-ffff-ffff-ffffffffffff"

_WAITING_CLASS: Final = {JobState.READY: 1, JobState.SCHEDULED: 2, JobState.RETRYING: 3}
_CLASS_STATE: Final = {value: state for state, value in _WAITING_CLASS.items()}
_STORED: Final = {
    JobState.READY: StoredState.WAITING,
    JobState.SCHEDULED: StoredState.WAITING,
    JobState.RETRYING: StoredState.WAITING,
    JobState.RUNNING: StoredState.RUNNING,
    JobState.BLOCKED: StoredState.BLOCKED,
    JobState.COMPLETED: StoredState.COMPLETED,
    JobState.CANCELLED: StoredState.CANCELLED,
    JobState.DEAD: StoredState.DEAD,
}


def get(tenant: str, ids: Sequence[str], now: datetime | None = None) -> Plan[list[JobRecord | None]]:
    """Return jobs by id, live or history."""
    rows = yield Statement("get", (now, tenant, pack.uuids(ids), earliest_expiry(ids)))
    # An id that is both live and history (it was used twice) is what lives now.
    records = sorted(map(job_record, rows), key=lambda record: record.finished_at is None)
    found = {record.id: record for record in records}
    return [found.get(id) for id in ids]


def history(refs: Sequence[JobRef], now: datetime | None = None) -> Plan[list[JobRecord | None]]:
    """Return final jobs by ref."""
    found: dict[str, JobRecord] = {}
    for tenant in sorted({ref.tenant for ref in refs}):
        ids = [ref.id for ref in refs if ref.tenant == tenant]
        rows = yield Statement("history", (now, tenant, pack.uuids(ids), earliest_expiry(ids)))
        found.update((record.id, record) for record in map(job_record, rows))
    return [found.get(ref.id) for ref in refs]


def find(query: Query, now: datetime | None = None) -> Plan[Page]:
    """Return one page, newest first: the newest of what live and history have."""
    wanted = set(query.filter.states) or set(JobState)
    sources = []
    has_finished = query.filter.finished_after is not None or query.filter.finished_before is not None
    if wanted - FINAL_STATES and not has_finished:
        sources.append("find_live")
    if wanted & FINAL_STATES:
        sources.append("find_history" if JobState.COMPLETED in wanted else "find_failed")
    found: list[JobRecord] = []
    short = False
    for source in sources:
        rows = yield Statement(source, _params(query, live=source == "find_live", now=now))
        found += map(job_record, rows)
        short = short or len(rows) < query.page_size
    found.sort(key=lambda record: record.id, reverse=True)
    floor = (yield from _floor(query, sources)) if short else None
    if floor is not None:
        # Below the floor a source has not been looked at: what another source has there waits for the next page.
        found = [record for record in found if record.id >= floor]
    page = tuple(found[: query.page_size])
    more = len(found) > query.page_size or len(page) == query.page_size
    return Page(page, page[-1].id if more else floor)


def _floor(query: Query, sources: list[str]) -> Plan[str | None]:
    """Return the highest id down to which a source that came up short had looked, None if all came to their end."""
    rows = yield Statement("find_floor", (query.before_id or LAST_ID, LOOK_MAX))
    live, final, failed = rows[0]
    reached = {"find_live": live, "find_history": final, "find_failed": failed}
    floors = [reached[source] for source in sources if reached[source] is not None]
    return max(floors) if floors else None


def _params(query: Query, *, live: bool, now: datetime | None) -> tuple[object, ...]:
    f = query.filter
    states: set[StoredState] | None = None
    classes: list[int] | None = None
    if f.states:
        states = {_STORED[s] for s in f.states}
        classes = sorted(_WAITING_CLASS[s] for s in f.states if s in _WAITING_CLASS)
    return (
        now,
        f.tenant,
        query.before_id or LAST_ID,
        query.page_size,
        pack.uuids(f.ids) if f.ids else None,
        list(f.queues) or None,
        list(f.kinds) or None,
        list(f.tags) or None,
        f.created_after,
        f.created_before,
        pack.int2s(sorted(states)) if states is not None else None,
        pack.int2s(classes) if live and classes is not None else None,
        LOOK_MAX,
        *(() if live else (f.finished_after, f.finished_before)),
    )


def count(filter: Filter, now: datetime | None = None) -> Plan[list[Count]]:
    """Count per queue and state: exact where the look was not cut short, else by the planner's estimate."""
    look = limits.COUNT_EXACT_MAX + 1
    rows = yield Statement("count", (now, filter.tenant, list(filter.queues) or None, look))
    counts = []
    scale = {}
    cut = {(queue if stored == StoredState.WAITING else None) for queue, stored, _, _, short in rows if short}
    if cut:
        scale = yield from _scale(rows, cut)
    for queue, stored, waiting_class, number, short in rows:
        state = JobState.RUNNING if stored == StoredState.RUNNING else _CLASS_STATE[waiting_class]
        factor = scale.get(queue if stored == StoredState.WAITING else None, 1.0) if short else 1.0
        if not filter.states or state in filter.states:
            counts.append(Count(queue, state, round(number * factor), approximate=bool(short)))
    return sorted(counts, key=lambda c: (c.queue, c.state))


def _scale(rows: Sequence[tuple[str, int, int, int, bool]], cut: set[str | None]) -> Plan[dict[str | None, float]]:
    """Share the estimate of what was not looked at evenly among the queues that were cut short."""
    [(waiting, running)] = yield Statement("count_estimate")
    seen = sum(number for _, stored, _, number, _ in rows if stored == StoredState.WAITING)
    queues = [queue for queue in cut if queue is not None]
    look = limits.COUNT_EXACT_MAX + 1
    scale: dict[str | None, float] = {queue: 1 + max(0, waiting - seen) / len(queues) / look for queue in queues}
    if None in cut:
        scale[None] = max(1.0, running / look)
    return scale
