"""What goes over the wire: the typed bodies and queries of the HTTP API, with their bounds."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from goqueue.model import limits
from goqueue.model.job import DEFAULT_QUEUE, JobRecord, NewJob, OnConflict, Unique
from goqueue.model.retry import Jitter, RetryDelays
from goqueue.model.state import JobState
from goqueue.service.submit import SubmittedJob

Kind = Annotated[str, Meta(min_length=1, max_length=limits.KIND_CHARS_MAX, description="Which task is to run.")]
Queue = Annotated[str, Meta(min_length=1, max_length=limits.NAME_CHARS_MAX)]
Tag = Annotated[str, Meta(min_length=1, max_length=limits.TAG_CHARS_MAX)]
Args = Annotated[Raw, Meta(description="Arguments: a JSON object, kept as sent.", extra_json_schema={"type": "object"})]
Instant = Annotated[datetime, Meta(tz=True)]
Delay = Annotated[float, Meta(ge=0, le=limits.DELAY_S_MAX)]
Deadline = Annotated[float, Meta(ge=limits.DEADLINE_S_MIN, le=limits.DEADLINE_S_MAX)]


class UniqueBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """At most one job per key and queue while its holder is not final, or is in one of ``final_states``.

    Without ``key`` the key is the kind and the arguments.
    """

    key: Annotated[str, Meta(min_length=1, max_length=limits.UNIQUE_KEY_CHARS_MAX)] | None = None
    on_conflict: OnConflict = OnConflict.RETURN
    final_states: tuple[JobState, ...] = ()
    window_s: Annotated[float, Meta(ge=0, le=limits.WINDOW_S_MAX)] | None = None
    until_started: Annotated[bool, Meta(description="The key is free again when a worker starts the job.")] = False
    keep_run_at: Annotated[bool, Meta(description="With replace: the holder keeps its run_at.")] = False


class RetryDelaysBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """When a failed job is tried again: ``base_s``, then ``factor`` times as long each time, at most ``cap_s``.

    With ``delays_s`` these, the last one again and again. No attempt starts later than ``retry_for_s`` after the first.
    """

    base_s: Delay = 2.0
    factor: Annotated[float, Meta(ge=1, le=limits.RETRY_FACTOR_MAX)] = 2.0
    cap_s: Delay = 3600.0
    jitter: Jitter = Jitter.EQUAL
    delays_s: Annotated[tuple[Delay, ...], Meta(max_length=limits.RETRY_DELAYS_MAX)] = ()
    retry_for_s: Delay | None = None

    def to_delays(self) -> RetryDelays:
        """Return what a job carries."""
        return RetryDelays(**{name: getattr(self, name) for name in self.__struct_fields__})


class NewJobBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A job to submit."""

    kind: Kind
    args: Args | UnsetType = UNSET
    id: Annotated[str, Meta(description="A UUIDv7 of the caller's: safe to repeat.")] | None = None
    queue: Queue = DEFAULT_QUEUE
    priority: Annotated[int, Meta(ge=limits.PRIORITY_MIN, le=limits.PRIORITY_MAX, description="0 runs first.")] = (
        limits.PRIORITY_DEFAULT
    )
    run_at: Annotated[Instant, Meta(description="Not before this instant.")] | None = None
    delay_s: Annotated[float, Meta(ge=0, le=limits.DELAY_S_MAX, description="From now, instead of run_at.")] | None = (
        None
    )
    max_attempts: Annotated[
        int, Meta(ge=1, le=limits.MAX_ATTEMPTS_MAX, description="Counted by the server, which knows no tasks.")
    ] = limits.MAX_ATTEMPTS_DEFAULT
    timeout_s: (
        Annotated[
            float,
            Meta(
                ge=limits.TIMEOUT_S_MIN,
                le=limits.TIMEOUT_S_MAX,
                description="Of one attempt. Without it that of its task holds.",
            ),
        ]
        | None
    ) = None
    schedule_to_start_s: Annotated[Deadline, Meta(description="From run_at to its start; then it is dead.")] | None = (
        None
    )
    deadline_s: Annotated[Deadline, Meta(description="From now to its end, all attempts; then it is dead.")] | None = (
        None
    )
    retry: Annotated[RetryDelaysBody, Meta(description="Instead of what its task says.")] | None = None
    unique: UniqueBody | None = None
    tags: Annotated[tuple[Tag, ...], Meta(max_length=limits.TAGS_MAX)] = ()
    meta: Annotated[dict[str, str], Meta(max_length=limits.META_KEYS_MAX)] = {}

    def to_job(self, id: str = "") -> NewJob[object]:
        """Return the job that this body asks for; ``id`` is for one that brings none."""
        unique = self.unique
        return NewJob(
            kind=self.kind,
            args=b"{}" if isinstance(self.args, UnsetType) else bytes(self.args),
            id=id if self.id is None else self.id,
            queue=self.queue,
            priority=self.priority,
            run_at=self.run_at,
            delay_s=self.delay_s,
            max_attempts=self.max_attempts,
            timeout_s=self.timeout_s,
            schedule_to_start_s=self.schedule_to_start_s,
            deadline_s=self.deadline_s,
            retry=None if self.retry is None else self.retry.to_delays(),
            unique=None
            if unique is None
            else Unique(
                key=unique.key,
                on_conflict=unique.on_conflict,
                final_states=unique.final_states,
                window_s=unique.window_s,
                until_started=unique.until_started,
                keep_run_at=unique.keep_run_at,
            ),
            tags=self.tags,
            meta=self.meta,
        )


class NewJobsBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Jobs to submit; each is answered by itself."""

    jobs: Annotated[list[NewJobBody], Meta(min_length=1, max_length=limits.BATCH_MAX)]


class RawJobsBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`NewJobsBody` as it is decoded: item by item, so that a bad one does not refuse the rest."""

    jobs: Annotated[list[Raw], Meta(min_length=1, max_length=limits.BATCH_MAX)]


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error as RFC 9457 has it. ``code`` is stable; ``retryable`` says that the same request may succeed later."""

    type: str
    title: str
    status: int
    code: str
    retryable: bool
    detail: str = ""
    pointer: str | None = None
    """JSON Pointer (RFC 6901) to the field of the request that is to blame."""
    holder_id: str | None = None
    """The job that holds the unique key."""


class BatchResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one item: a job, or an error."""

    job: SubmittedJob | None = None
    error: Problem | None = None


class BatchResults(msgspec.Struct, frozen=True):
    """One result for each item, in the order of the request."""

    results: list[BatchResult]


class CancelBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Why a job is cancelled; the body may be left out."""

    reason: Annotated[str, Meta(max_length=limits.REASON_CHARS_MAX)] = ""


class RetryBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """``args``: new arguments, for a final job. The body may be left out."""

    args: Args | UnsetType = UNSET


class ListJobsQuery(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Which jobs to list. Lists are given by repeating the parameter; times are half-open: [after, before)."""

    state: tuple[JobState, ...] = ()
    queue: tuple[str, ...] = ()
    kind: tuple[str, ...] = ()
    tag: tuple[str, ...] = ()
    created_after: Instant | None = None
    created_before: Instant | None = None
    finished_after: Annotated[Instant, Meta(description="Only final jobs.")] | None = None
    finished_before: Annotated[Instant, Meta(description="Only final jobs.")] | None = None
    page_size: Annotated[int, Meta(ge=1, le=limits.PAGE_SIZE_MAX)] = limits.PAGE_SIZE_DEFAULT
    page_token: str = ""


class Status(msgspec.Struct, frozen=True):
    """The process, or the store behind it, is there."""

    status: str


__all__ = [
    "BatchResult",
    "BatchResults",
    "CancelBody",
    "JobRecord",
    "ListJobsQuery",
    "NewJobBody",
    "NewJobsBody",
    "Problem",
    "RawJobsBody",
    "RetryBody",
    "RetryDelaysBody",
    "Status",
    "SubmittedJob",
    "UniqueBody",
]
