"""What a final record means for who waits for its result, and other rules without I/O that both clients share."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Protocol

from goqueue.model import limits
from goqueue.model.errors import (
    Conflict,
    InvalidInput,
    InvalidQuery,
    JobCancelled,
    JobFailed,
    JobNotFound,
    ResultError,
    ResultGone,
    ResultTimeout,
    Unavailable,
    UniqueConflict,
    WouldDeadlock,
    WrongState,
)
from goqueue.model.job import OnConflict
from goqueue.model.query import ChangeStatus, Filter, Query
from goqueue.model.state import JobState
from goqueue.tasks.codec import canonical
from goqueue.tasks.context import in_handler
from goqueue.tasks.encoding import decode_as
from goqueue.tasks.prepare import check_id

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from goqueue.model.job import JobRecord, NewJob
    from goqueue.settings import ClientSettings


class AnyJob(Protocol):
    """A handle, of whichever client."""

    def is_of(self, client: object) -> bool:
        """Tell whether it is a handle of this client."""
        ...


def check_wait(id: str, timeout_s: float | None, allow_in_handler: bool) -> None:
    """Refuse a wait that has no sense, or that would hold a slot for a job that may need it."""
    if timeout_s is not None and not (math.isfinite(timeout_s) and timeout_s >= 0):
        raise InvalidInput("must be a number of seconds from 0, or None for no limit", "/timeout_s")
    if in_handler.get() and not allow_in_handler:
        raise WouldDeadlock(
            f"a handler would wait for job {id} while it holds a slot itself:"
            " enqueue what comes after as a job of its own, or say allow_in_handler=True if other workers run that job"
        )


def timed_out(id: str, timeout_s: float | None) -> ResultTimeout:
    """Say that a job was not final in time."""
    return ResultTimeout(f"job {id} was not final within {timeout_s:g} s; it goes on by itself")


def result_of(ended: JobRecord | ResultGone, returns: object) -> object:
    """Return the result of a job that was waited for, or raise what it ended with."""
    if isinstance(ended, ResultGone):
        raise ended
    return result_from(ended, returns)


def check_handles(client: object, jobs: Sequence[AnyJob]) -> None:
    """Refuse what is no handle of this client. Raises `InvalidInput`, which names the position."""
    for position, job in enumerate(jobs):
        given: object = job  # whatever the caller's type checker thinks of it
        if not (hasattr(given, "is_of") and job.is_of(client)):
            what = "a job of another client: let that one wait for it" if hasattr(given, "is_of") else repr(given)
            raise InvalidInput(f"must be a handle that this client has returned, is {what}", f"/jobs/{position}")


def not_all(left: int, total: int, timeout_s: float | None) -> ResultTimeout:
    """Say that some of many jobs were not final in time."""
    return ResultTimeout(f"{left} of {total} jobs were not final within {timeout_s:g} s; they go on by themselves")


def result_from(record: JobRecord, returns: object) -> object:
    """Return the result of a final job, decoded to ``returns``, or raise what it ended with."""
    if record.state is JobState.CANCELLED:
        raise JobCancelled(f"job {record.id} was cancelled" + (f": {record.reason}" if record.reason else ""))
    if record.state is JobState.DEAD:
        last = record.errors[-1] if record.errors else None
        why = f"{last.type}: {last.message}" if last else record.reason or "no error was kept"
        raise JobFailed(f"job {record.id} is dead after attempt {record.attempt}: {why}", record.errors)
    if record.result is None:
        return None
    try:
        return decode_as(bytes(record.result), returns)
    except Exception as e:  # a model's own validator may raise anything
        raise ResultError(
            f"the result of job {record.id} does not fit the task's return type: {e}; record().result has it as JSON"
        ) from e


def pause_s(settings: ClientSettings, tries: int) -> float:
    """Return how long to wait after so many failed tries: exponential, with full jitter."""
    longest: float = min(settings.retry_cap_s, settings.retry_base_s * 2 ** (tries - 1))
    return longest * random.random()  # noqa: S311  jitter is no secret


def same_job(job: NewJob[object], record: JobRecord) -> bool:
    """Tell whether a stored job is the one that was asked for: same work, in the same place.

    One whose key lets others replace its arguments and options may have changed since: its kind and place tell.
    """
    if job.unique is not None and job.unique.on_conflict == OnConflict.REPLACE:
        return (job.kind, job.queue) == (record.kind, record.queue)
    return (
        (job.kind, job.queue, job.priority, job.timeout_s, job.schedule_to_start_s, job.tags)
        == (record.kind, record.queue, record.priority, record.timeout_s, record.schedule_to_start_s, record.tags)
        and (job.deadline_s is None) == (record.deadline_at is None)
        and job.retry == record.retry
        and canonical(job.args) == canonical(bytes(record.args))
    )


def checked_status(id: str, what: str, status: ChangeStatus) -> ChangeStatus:
    """Return the status of a change that was made, or is not needed; raise for the others."""
    match status:
        case ChangeStatus.CHANGED | ChangeStatus.REQUESTED | ChangeStatus.UNCHANGED:
            return status
        case ChangeStatus.NOT_FOUND:
            raise not_found(id)
        case ChangeStatus.WRONG_STATE:
            raise WrongState(f"cannot {what} job {id} in its present state")
        case ChangeStatus.KEY_HELD:
            raise UniqueConflict(f"cannot {what} job {id}: another job holds its unique key now", "")
        case ChangeStatus.BUSY:
            raise Unavailable(f"cannot {what} job {id} now: another transaction has it locked; try again")


def not_found(id: str) -> JobNotFound:
    """Say that there is no such job."""
    return JobNotFound(
        f"no job has the id {id}: it never existed, was deleted, its retention has passed, or the transaction that"
        " enqueues it is not committed"
    )


def first_conflict(conflicts: dict[int, Conflict]) -> str:
    """Describe the conflicts of a bulk enqueue in one line."""
    position, conflict = next(iter(conflicts.items()))
    return (
        f"{len(conflicts)} of the jobs met a conflict, the others are stored; first at position {position}: {conflict}"
    )


def query(
    *,
    tenant: str,
    ids: Sequence[str],
    states: Sequence[JobState | str],
    queues: Sequence[str],
    kinds: Sequence[str],
    tags: Sequence[str],
    created_after: datetime | None,
    created_before: datetime | None,
    finished_after: datetime | None,
    finished_before: datetime | None,
    page_size: int,
    page_token: str,
) -> Query:
    """Build a checked query from what a caller typed. Raises `InvalidQuery` with a pointer."""
    for name, values in (("states", states), ("queues", queues), ("kinds", kinds), ("tags", tags), ("ids", ids)):
        if isinstance(values, str):
            raise InvalidQuery(f"takes a list, for example [{values!r}]", f"/{name}")
        if len(values) > limits.BATCH_MAX:
            raise InvalidQuery(f"takes at most {limits.BATCH_MAX} values", f"/{name}")
    try:
        known = tuple(JobState(state) for state in states)
    except ValueError as e:
        raise InvalidQuery(f"{e}; there are {', '.join(JobState)}", "/states") from None
    for name, instant in (
        ("created_after", created_after),
        ("created_before", created_before),
        ("finished_after", finished_after),
        ("finished_before", finished_before),
    ):
        if instant is not None and instant.tzinfo is None:
            raise InvalidQuery("must have a time zone", f"/{name}")
    if not 1 <= page_size <= limits.PAGE_SIZE_MAX:
        raise InvalidQuery(f"must be from 1 to {limits.PAGE_SIZE_MAX}", "/page_size")
    asked = Filter(
        tenant=tenant,
        ids=tuple(_id(job_id, "/ids") for job_id in ids),
        states=known,
        queues=tuple(queues),
        kinds=tuple(kinds),
        tags=tuple(tags),
        created_after=created_after,
        created_before=created_before,
        finished_after=finished_after,
        finished_before=finished_before,
    )
    return Query(filter=asked, page_size=page_size, before_id=_id(page_token, "/page_token") if page_token else None)


def _id(value: str, pointer: str) -> str:
    try:
        return check_id(value, pointer)
    except InvalidInput as e:
        raise InvalidQuery(e.detail, pointer) from None
