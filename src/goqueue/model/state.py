"""The life of a job as one table: which event leads from which state to which, and what it counts.

``docs/state_machine.md`` is made from this table, the memory store obeys it, and the conformance suite holds every
other store to it.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from datetime import datetime


class JobState(StrEnum):
    """What users see."""

    SCHEDULED = "scheduled"
    READY = "ready"
    RUNNING = "running"
    RETRYING = "retrying"
    BLOCKED = "blocked"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    DEAD = "dead"


class StoredState(IntEnum):
    """What a store keeps. Scheduled, ready and retrying are one stored state, told apart by ``run_at``."""

    WAITING = 0
    RUNNING = 1
    BLOCKED = 2
    COMPLETED = 3
    CANCELLED = 4
    DEAD = 5


FINAL_STATES: Final = frozenset({JobState.COMPLETED, JobState.CANCELLED, JobState.DEAD})
FINAL_STORED: Final = frozenset({StoredState.COMPLETED, StoredState.CANCELLED, StoredState.DEAD})


def public_state(stored: int, run_at: datetime, attempt: int, now: datetime) -> JobState:
    """Tell what a user sees of a stored state at the store's instant ``now``."""
    if stored == StoredState.WAITING:
        if run_at <= now:
            return JobState.READY
        return JobState.RETRYING if attempt > 0 else JobState.SCHEDULED
    return _PUBLIC[StoredState(stored)]


_PUBLIC: Final = {
    StoredState.RUNNING: JobState.RUNNING,
    StoredState.BLOCKED: JobState.BLOCKED,
    StoredState.COMPLETED: JobState.COMPLETED,
    StoredState.CANCELLED: JobState.CANCELLED,
    StoredState.DEAD: JobState.DEAD,
}


class Event(StrEnum):
    """What can happen to a job."""

    ENQUEUE = "enqueue"
    CLAIM = "claim"
    COMPLETE = "complete"
    RETRY = "retry"
    SNOOZE = "snooze"
    RELEASE = "release"
    CANCEL = "cancel"
    DEAD = "dead"
    SWEEP = "sweep"
    SWEEP_LAST = "sweep_last"
    CRASH = "crash"
    CRASH_LAST = "crash_last"
    EXPIRE = "expire"
    CANCEL_REQUEST = "cancel_request"
    RETRY_REQUEST = "retry_request"


class Transition(msgspec.Struct, frozen=True):
    """One row of the table. ``before`` is None for a job that does not exist yet."""

    before: StoredState | None
    event: Event
    after: StoredState
    fence: int = 0
    attempt: int = 0
    crashes: int = 0
    note: str = ""


_W, _R, _B = StoredState.WAITING, StoredState.RUNNING, StoredState.BLOCKED
_C, _X, _D = StoredState.COMPLETED, StoredState.CANCELLED, StoredState.DEAD

TRANSITIONS: Final = (
    Transition(None, Event.ENQUEUE, _W, note="durable when the enqueuer's transaction has committed"),
    Transition(_W, Event.CLAIM, _R, fence=+1, attempt=+1, note="only by a worker whose own row is alive"),
    Transition(_R, Event.COMPLETE, _C, note="by the worker, fenced; moves to history with its result"),
    Transition(_R, Event.RETRY, _W, note="by the worker, fenced; run_at = now + delay"),
    Transition(_R, Event.SNOOZE, _W, attempt=-1, note="by the worker, fenced; no attempt spent"),
    Transition(_R, Event.RELEASE, _W, attempt=-1, note="by the worker, fenced; handed back unstarted or at a stop"),
    Transition(_R, Event.CANCEL, _X, note="by the worker, fenced; the handler asked for it or obeyed a request"),
    Transition(_R, Event.DEAD, _D, note="by the worker, fenced; attempts used up or not retryable"),
    Transition(_R, Event.SWEEP, _W, fence=+1, crashes=+1, note="its worker's row expired or is missing"),
    Transition(_R, Event.SWEEP_LAST, _D, fence=+1, crashes=+1, note="as sweep, at max_attempts or max_crashes"),
    Transition(_R, Event.CRASH, _W, crashes=+1, note="by the worker or its supervisor, fenced; its process died"),
    Transition(_R, Event.CRASH_LAST, _D, crashes=+1, note="as crash, at max_attempts or max_crashes"),
    Transition(_W, Event.EXPIRE, _D, fence=+1, note="a sweep: not started in time, or past the total deadline"),
    Transition(_B, Event.EXPIRE, _D, fence=+1, note="a sweep: past the total deadline"),
    Transition(_W, Event.CANCEL_REQUEST, _X, note="at once"),
    Transition(_B, Event.CANCEL_REQUEST, _X, note="at once"),
    Transition(_R, Event.CANCEL_REQUEST, _R, note="recorded; the worker hears of it with its next beat"),
    Transition(_W, Event.RETRY_REQUEST, _W, note="run_at = now"),
    Transition(_D, Event.RETRY_REQUEST, _W, note="keeps fence and attempt, grants at least one more attempt"),
    Transition(_X, Event.RETRY_REQUEST, _W, note="keeps fence and attempt, grants at least one more attempt"),
    Transition(_C, Event.RETRY_REQUEST, _W, note="keeps fence and attempt, grants at least one more attempt"),
)
"""Checker's law: fence = claims + sweeps; attempt = claims - releases - snoozes."""

BY_STATE_AND_EVENT: Final = {(t.before, t.event): t for t in TRANSITIONS}
