"""What workers do: claim, settle, beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from goqueue.model import limits
from goqueue.model.lease import Beaten, Claimed, Held, WorkerRecord
from goqueue.model.outcome import Answer, Cancel, Complete, Crash, Dead, Release, Retry, Snooze
from goqueue.model.state import Event, StoredState
from goqueue.store.memory.core import CANCELLED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from goqueue.model.job import JobRef
    from goqueue.model.lease import Beat, Lease, Want
    from goqueue.model.outcome import Outcome, Settlement
    from goqueue.store.memory.core import Memory
    from goqueue.store.memory.row import Row


def running_under(memory: Memory, ref: JobRef, fence: int) -> Row | None:
    """Return the job if it is running under this fence: the guard of every write by a worker."""
    row = memory.live.get((ref.tenant, ref.id))
    return row if row is not None and row.state is StoredState.RUNNING and row.fence == fence else None


# -- claim ----------------------------------------------------------------------------------------


def claim(memory: Memory, want: Want, outcomes: Sequence[Settlement]) -> Claimed:
    """Settle, then lease the first due jobs, queue by queue, to a worker that is alive."""
    settled = settle(memory, outcomes)
    leases: list[Lease] = []
    total = max(0, min(want.total, limits.CLAIM_MAX))
    if memory.alive(want.tenant, want.worker_id):
        for queue in want.queues:
            rows = due(memory, want.tenant, queue)[: total - len(leases)]
            leases += [lease(memory, row, want.worker_id) for row in rows]
    return Claimed(tuple(settled), tuple(leases))


def due(memory: Memory, tenant: str, queue: str) -> list[Row]:
    """Return the jobs of a queue that can be claimed now, in the order of their claim."""
    if (tenant, queue) in memory.paused:
        return []
    rows = (
        row
        for (owner, _), row in memory.live.items()
        if owner == tenant
        and row.job.queue == queue
        and row.state is StoredState.WAITING
        and memory.expired(row.run_at)
    )
    return sorted(rows, key=lambda row: (row.job.priority, row.run_at, row.job.id))


def lease(memory: Memory, row: Row, worker_id: str) -> Lease:
    """Claim one job."""
    row.move(Event.CLAIM)
    row.attempted_at = memory.now()
    row.first_attempted_at = row.first_attempted_at or row.attempted_at
    row.worker_id = worker_id
    row.reason = None
    if row.job.unique is not None and row.job.unique.until_started:
        memory.free_key(row)
    return row.lease(row.attempted_at)


# -- settle ---------------------------------------------------------------------------------------


def settle(memory: Memory, outcomes: Sequence[Settlement]) -> list[Answer]:
    """Write each outcome whose lease holds, in order: of two for one lease the first counts."""
    return [_settle_one(memory, settlement) for settlement in outcomes]


def _settle_one(memory: Memory, settlement: Settlement) -> Answer:
    row = running_under(memory, settlement.ref, settlement.fence)
    if row is None:
        return Answer.ALREADY if _decided_by(memory, settlement.ref, settlement.fence) else Answer.LOST
    if settlement.note is not None:
        row.note(settlement.note.progress, settlement.note.logs, memory.now())
    _decide(memory, row, settlement.outcome)
    return Answer.APPLIED


def _decided_by(memory: Memory, ref: JobRef, fence: int) -> bool:
    """Was this attempt decided by its own worker? Claims and sweeps raise the fence; so if it still stands, it was."""
    row = memory.find(ref.tenant, ref.id)
    return row is not None and row.state is not StoredState.RUNNING and row.fence == fence


def _decide(memory: Memory, row: Row, outcome: Outcome) -> None:
    match outcome:
        case Complete():
            row.move(Event.COMPLETE)
            memory.finish(row, result=outcome.result)
        case Cancel():
            row.move(Event.CANCEL)
            memory.finish(row, reason=outcome.reason or CANCELLED)
        case Dead():
            row.add_error(outcome.error, memory.now())
            row.move(Event.DEAD)
            memory.finish(row, reason=outcome.reason)
        case Retry():
            row.add_error(outcome.error, memory.now())
            row.move(Event.RETRY)
            memory.wait(row, memory.later(outcome.delay_s))
        case Crash():
            row.add_error(outcome.error, memory.now())
            memory.crash(row, Event.CRASH_LAST, Event.CRASH)
        case Snooze():
            row.move(Event.SNOOZE)
            row.reason = outcome.reason or None
            memory.wait(row, memory.later(outcome.delay_s))
        case Release():
            row.move(Event.RELEASE)
            memory.wait(row, memory.now())
        case _:
            assert_never(outcome)


# -- extend ---------------------------------------------------------------------------------------


def extend(memory: Memory, beat: Beat) -> Beaten:
    """Note a sign of life; tell the worker what it has lost and what it should stop."""
    now = memory.now()
    place = (beat.tenant, beat.worker.id)
    known = memory.workers.get(place)
    memory.workers[place] = WorkerRecord(
        id=beat.worker.id,
        name=beat.worker.name,
        host=beat.worker.host,
        pid=beat.worker.pid,
        version=beat.worker.version,
        queues=beat.worker.queues,
        kinds=beat.worker.kinds,
        concurrency=beat.worker.concurrency,
        running=beat.running,
        idle=beat.idle,
        draining=beat.draining,
        started_at=now if known is None else known.started_at,
        beat_at=now,
        expires_at=memory.later(beat.ttl_s),
    )
    kept = [held for held in beat.held if _still_held(memory, held, beat.worker.id)]
    named = {held.ref.id for held in beat.held}
    running = [
        row
        for row in memory.live.values()
        if row.state is StoredState.RUNNING and (row.job.tenant, row.worker_id) == place
    ]
    unwanted = {row.job.id for row in running if row.cancel_requested_at is not None}
    return Beaten(
        lost=tuple(held.ref for held in beat.held if held not in kept),
        cancel=tuple(held.ref for held in kept if held.ref.id in unwanted),
        strays=tuple(Held(row.ref, row.fence) for row in running if row.job.id not in named)[: limits.CLAIM_MAX],
    )


def _still_held(memory: Memory, held: Held, worker_id: str) -> bool:
    row = running_under(memory, held.ref, held.fence)
    if row is None or row.worker_id != worker_id:
        return False
    row.note(held.progress, held.logs, memory.now())
    return True
