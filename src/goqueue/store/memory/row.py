"""A job as the memory store keeps it, and the values that leave the store."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from goqueue.model import limits
from goqueue.model.job import JobError, JobLog, JobRecord, JobRef
from goqueue.model.lease import Lease
from goqueue.model.state import BY_STATE_AND_EVENT, FINAL_STORED, StoredState, public_state

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from goqueue.model.job import ErrorInfo, NewJob
    from goqueue.model.outcome import NewLog
    from goqueue.model.state import Event, JobState

KeyId: TypeAlias = tuple[str, str, bytes]
"""(tenant, queue, digest): the scope in which a unique key is unique."""


@dataclass(slots=True)
class Row:
    """One job, live or final. Only `move` changes state, fence, attempt and crashes."""

    job: NewJob[object]
    """As it was asked for, or as the last replace has left it."""
    created_at: datetime
    run_at: datetime
    max_attempts: int
    max_crashes: int
    state: StoredState = StoredState.WAITING
    fence: int = 0
    attempt: int = 0
    crashes: int = 0
    attempted_at: datetime | None = None
    first_attempted_at: datetime | None = None
    """The first claim since the enqueue or the last manual retry."""
    deadline_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    """When a final job leaves the history; None is never."""
    cancel_requested_at: datetime | None = None
    worker_id: str | None = None
    result: bytes | None = None
    reason: str | None = None
    progress: bytes | None = None
    errors: list[JobError] = field(default_factory=list)
    logs: list[JobLog] = field(default_factory=list)
    logged: tuple[int, int] = (0, 0)
    """The fence of the newest of them, and its number."""

    @property
    def ref(self) -> JobRef:
        return self.job.ref

    @property
    def key(self) -> KeyId | None:
        """The unique key that this job wants or holds."""
        unique = self.job.unique
        return None if unique is None else (self.job.tenant, self.job.queue, unique.digest)

    @property
    def final(self) -> bool:
        return self.state in FINAL_STORED

    @property
    def start_by(self) -> datetime | None:
        """When it is too late to start the next attempt."""
        limit_s = self.job.schedule_to_start_s
        return None if limit_s is None else self.run_at + timedelta(seconds=bounded_s(limit_s))

    @property
    def expire_at(self) -> datetime | None:
        """When a job is dead that has not been started by then. Of a blocked one only the deadline counts."""
        start_by = None if self.state is StoredState.BLOCKED else self.start_by
        return min((at for at in (start_by, self.deadline_at) if at is not None), default=None)

    def public(self, now: datetime) -> JobState:
        return public_state(self.state, self.run_at, self.attempt, now)

    def move(self, event: Event) -> None:
        """Take the step that the table has for ``event``. That there is none is a mistake of the caller's."""
        step = BY_STATE_AND_EVENT[self.state, event]
        self.state = step.after
        self.fence += step.fence
        self.attempt += step.attempt
        self.crashes += step.crashes

    def add_error(self, error: ErrorInfo, now: datetime) -> None:
        """Keep what the present attempt raised; the oldest go when there are too many."""
        self.errors.append(JobError(self.attempt, now, error.type, error.message, error.traceback))
        del self.errors[: -limits.ERRORS_KEPT_MAX]

    def note(self, progress: bytes | None, logs: Sequence[NewLog], now: datetime) -> None:
        """Keep what the present attempt has said; a line that has come before is not added again."""
        if progress is not None:
            self.progress = progress
        for log in sorted(logs, key=lambda log: log.n):
            fence, n = self.logged
            if fence != self.fence or log.n > n:
                at = now - timedelta(seconds=bounded_s(log.age_s))
                self.logs.append(JobLog(self.attempt, at, log.level, log.message))
                self.logged = (self.fence, log.n)
        del self.logs[: -limits.LOGS_KEPT_MAX]

    def record(self, now: datetime) -> JobRecord:
        """Return what users see."""
        job = self.job
        return JobRecord(
            id=job.id,
            kind=job.kind,
            args=msgspec.Raw(job.args),
            queue=job.queue,
            priority=job.priority,
            state=self.public(now),
            attempt=self.attempt,
            max_attempts=self.max_attempts,
            crashes=self.crashes,
            max_crashes=self.max_crashes,
            run_at=self.run_at,
            created_at=self.created_at,
            attempted_at=self.attempted_at,
            finished_at=self.finished_at,
            timeout_s=job.timeout_s,
            schedule_to_start_s=job.schedule_to_start_s,
            deadline_at=self.deadline_at,
            retry=job.retry,
            tags=job.tags,
            meta=dict(job.meta),
            unique_key=None if job.unique is None else job.unique.key or job.unique.digest.hex(),
            result=None if self.result is None else msgspec.Raw(self.result),
            errors=tuple(self.errors),
            reason=self.reason,
            progress=None if self.progress is None else msgspec.Raw(self.progress),
            logs=tuple(self.logs),
            cancel_requested_at=self.cancel_requested_at,
            worker_id=self.worker_id,
            tenant=job.tenant,
        )

    def lease(self, now: datetime) -> Lease:
        """Return the lease of the attempt that has just been claimed."""
        job = self.job
        return Lease(
            id=job.id,
            tenant=job.tenant,
            queue=job.queue,
            kind=job.kind,
            args=job.args,
            fence=self.fence,
            attempt=self.attempt,
            max_attempts=self.max_attempts,
            crashes=self.crashes,
            priority=job.priority,
            timeout_s=job.timeout_s,
            created_at=self.created_at,
            run_at=self.run_at,
            meta=msgspec.json.encode(job.meta) if job.meta else None,
            tags=job.tags,
            waited_s=max(0.0, (now - self.run_at).total_seconds()),
            tried_for_s=(now - (self.first_attempted_at or now)).total_seconds(),
            start_in_s=_seconds(now, self.start_by),
            deadline_in_s=_seconds(now, self.deadline_at),
            retry=job.retry,
            max_crashes=self.max_crashes if self.fence > 1 or self.max_crashes == 1 else None,
        )


def bounded_s(delay_s: float) -> float:
    """Return a delay within its bounds, whatever a worker or client has sent."""
    return 0.0 if math.isnan(delay_s) else min(max(delay_s, 0.0), limits.DELAY_S_MAX)


def _seconds(start: datetime, end: datetime | None) -> float | None:
    """Return the seconds from ``start`` to ``end``; negative when that has passed."""
    return None if end is None else (end - start).total_seconds()
