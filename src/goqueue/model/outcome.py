"""What becomes of an attempt. Outcomes are values. Delays are durations: only the store's clock counts."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

import msgspec

from goqueue.model.job import ErrorInfo, JobRef, LogLevel

UNKNOWN_KIND = "no task of kind"
"""How the reason of a `Snooze` begins that puts a job off because the worker has no task of its kind."""


class Complete(msgspec.Struct, frozen=True, tag="complete"):
    """The handler returned. ``result`` is JSON, or None for no result."""

    result: bytes | None = None


class Retry(msgspec.Struct, frozen=True, tag="retry"):
    """The attempt failed; another may start in ``delay_s`` seconds."""

    delay_s: float
    error: ErrorInfo


class Snooze(msgspec.Struct, frozen=True, tag="snooze"):
    """Not now: again in ``delay_s`` seconds, no attempt spent. ``reason`` stays with the job until its next attempt."""

    delay_s: float
    reason: str = ""


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """The job is not wanted any more."""

    reason: str = ""


class Dead(msgspec.Struct, frozen=True, tag="dead"):
    """The job has failed for good. ``reason`` is ``attempts``, ``not_retryable``, ``retry_for``, ``deadline``,
    ``expired``, or the handler's own words."""

    error: ErrorInfo
    reason: str = "attempts"


class Crash(msgspec.Struct, frozen=True, tag="crash"):
    """The process in which the attempt ran has died under it: crashes + 1, as a sweep would count it.

    The store decides, as it does in a sweep: again after its crash delay, or dead (reason ``crashed``) at
    ``max_crashes`` or ``max_attempts``, or cancelled if that was requested.
    """

    error: ErrorInfo


class Release(msgspec.Struct, frozen=True, tag="release"):
    """Handed back: not started, or stopped at the end of the grace period. No attempt spent."""


Outcome: TypeAlias = Complete | Retry | Snooze | Cancel | Dead | Crash | Release


class NewLog(msgspec.Struct, frozen=True, gc=False):
    """One line that a handler has logged, on its way to the store, which stamps it. ``age_s``: how long ago that was.

    ``n`` counts the lines of an attempt from 1: what comes again is known by it.
    """

    n: int
    level: LogLevel
    message: str
    age_s: float = 0.0


class Note(msgspec.Struct, frozen=True):
    """What an attempt has said last, and no beat has brought to the store."""

    progress: bytes | None = None
    logs: tuple[NewLog, ...] = ()


class Settlement(msgspec.Struct, frozen=True):
    """An outcome, and the lease under which it was reached. The note is kept with the job, if the lease holds."""

    ref: JobRef
    fence: int
    outcome: Outcome
    note: Note | None = None


class Answer(StrEnum):
    """What a store says to a fenced write."""

    APPLIED = "applied"
    ALREADY = "already"
    """This very write (job, fence) was applied before: a blind retry is safe."""
    BUSY = "busy"
    """Somebody has the row locked: try this one again alone."""
    LOST = "lost"
    """The lease is no longer this worker's; nothing was changed."""
