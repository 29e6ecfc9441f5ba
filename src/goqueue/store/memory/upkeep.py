"""Upkeep and administration: sweeps, elections, records, workers, pauses."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final, assert_never

import msgspec

from goqueue.model import limits
from goqueue.model.admin import Duty, Record, Swept, Term
from goqueue.model.job import ErrorInfo
from goqueue.model.lease import Signal
from goqueue.model.state import Event, StoredState
from goqueue.store.memory.core import Entry, Office

if TYPE_CHECKING:
    from goqueue.model.lease import WorkerRecord
    from goqueue.store.memory.core import Memory

WORKERS_MAX: Final = 1_000
CRASH: Final = ErrorInfo("WorkerCrashed", "its worker died or was not heard of in time")
EXPIRED: Final = "expired"
DEADLINE: Final = "deadline"
TOO_LATE: Final = {
    EXPIRED: ErrorInfo("DeadlineExceeded", "it was not started within schedule_to_start_s"),
    DEADLINE: ErrorInfo("DeadlineExceeded", "it did not end within deadline_s"),
}


# -- sweeps ---------------------------------------------------------------------------------------


def sweep(memory: Memory, duty: Duty, limit: int, term: Term | None) -> Swept:
    """Do a bounded piece of upkeep, unless it was asked for under a term that is over."""
    if term is not None and not _present(memory, term):
        return Swept(0, deposed=True)
    match duty:
        case Duty.ORPHANS:
            return _orphans(memory, limit, row_exists=True)
        case Duty.ORPHANS_FULL:
            return _orphans(memory, limit, row_exists=False)
        case Duty.EXPIRED:
            return _expired(memory, limit)
        case Duty.WORKERS:
            return _workers(memory, limit)
        case Duty.HISTORY:
            return _history(memory, limit)
        case _:
            assert_never(duty)


def _orphans(memory: Memory, limit: int, *, row_exists: bool) -> Swept:
    orphans = [
        row
        for row in memory.live.values()
        if row.state is StoredState.RUNNING
        and not memory.alive(row.job.tenant, row.worker_id)
        and ((row.job.tenant, row.worker_id) in memory.workers) is row_exists
    ]
    for row in orphans[:limit]:
        row.add_error(CRASH, memory.now())
        memory.crash(row, Event.SWEEP_LAST, Event.SWEEP)
    return Swept(min(len(orphans), limit), more=len(orphans) > limit)


def _expired(memory: Memory, limit: int) -> Swept:
    late = [
        row
        for row in memory.live.values()
        if row.state in (StoredState.WAITING, StoredState.BLOCKED) and memory.expired(row.expire_at)
    ]
    for row in late[:limit]:
        reason = DEADLINE if memory.expired(row.deadline_at) else EXPIRED
        row.add_error(TOO_LATE[reason], memory.now())
        row.move(Event.EXPIRE)
        memory.finish(row, reason=reason)
    return Swept(min(len(late), limit), more=len(late) > limit)


def _workers(memory: Memory, limit: int) -> Swept:
    busy = {(row.job.tenant, row.worker_id) for row in memory.live.values() if row.state is StoredState.RUNNING}
    kept = timedelta(seconds=limits.WORKER_KEPT_S)
    gone = [place for place, w in memory.workers.items() if memory.expired(w.expires_at + kept) and place not in busy]
    for place in gone[:limit]:
        del memory.workers[place]
    return Swept(min(len(gone), limit), more=len(gone) > limit)


def _history(memory: Memory, limit: int) -> Swept:
    old = [row for row in memory.past.values() if memory.expired(row.expires_at)]
    for row in old[:limit]:
        del memory.past[row.job.tenant, row.job.id]
        memory.free_key(row)
    for key in [key for key, hold in memory.keys.items() if memory.expired(hold.until)]:
        del memory.keys[key]
    for name in [name for name, entry in memory.records.items() if memory.expired(entry.expires_at)]:
        del memory.records[name]
    return Swept(min(len(old), limit), more=len(old) > limit)


# -- elections and records --------------------------------------------------------------------------


def elect(memory: Memory, name: str, holder: str, ttl_s: float) -> Term | None:
    """Lead, go on leading, or resign."""
    office = memory.offices.get(name)
    lapsed = office is None or memory.expired(office.expires_at)
    if office is not None and office.holder != holder and not lapsed:
        return None
    if ttl_s <= 0:
        if office is not None and office.holder == holder:
            office.expires_at = memory.now()
        return None
    # Who comes back after a lapse gets a new number, too: nobody knows what happened meanwhile.
    number = (0 if office is None else office.number) + lapsed
    memory.offices[name] = Office(holder, number, memory.later(ttl_s))
    return Term(name, holder, number)


def _present(memory: Memory, term: Term) -> bool:
    office = memory.offices.get(term.name)
    return (
        office is not None
        and (office.holder, office.number) == (term.holder, term.number)
        and not memory.expired(office.expires_at)
    )


def read(memory: Memory, name: str) -> Record | None:
    """Return a record that has not ended."""
    entry = memory.records.get(name)
    if entry is None or memory.expired(entry.expires_at):
        return None
    return Record(name, entry.value, entry.version)


def write(memory: Memory, name: str, value: bytes, version: int, ttl_s: float | None) -> Record | None:
    """Write if nobody else did since ``version`` was read."""
    present = read(memory, name)
    if version != (0 if present is None else present.version):
        return None
    ended = memory.records.get(name)
    number = 1 if ended is None else ended.version + 1
    expires_at = None if ttl_s is None else memory.now() + timedelta(seconds=ttl_s)
    memory.records[name] = Entry(value, number, expires_at)
    return Record(name, value, number)


# -- workers and queues -----------------------------------------------------------------------------


def workers(memory: Memory, tenant: str) -> list[WorkerRecord]:
    """List workers, newest first."""
    now = memory.now()
    mine = [
        msgspec.structs.replace(worker, left_s=(worker.expires_at - now).total_seconds())
        for (owner, _), worker in memory.workers.items()
        if owner == tenant
    ]
    return sorted(mine, key=lambda worker: (worker.started_at, worker.id), reverse=True)[:WORKERS_MAX]


def pause(memory: Memory, tenant: str, queue: str, paused: bool) -> None:
    """Stop or resume claims from a queue."""
    if paused:
        memory.paused.add((tenant, queue))
    else:
        memory.paused.discard((tenant, queue))
        memory.notify(tenant, Signal(queue))


def paused(memory: Memory, tenant: str) -> list[str]:
    """Name the paused queues."""
    return sorted(queue for owner, queue in memory.paused if owner == tenant)
