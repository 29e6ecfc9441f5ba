"""Calls of the stored functions, for drivers that are not ours: one text in, plain rows out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from goqueue.model.errors import LeaseLost
from goqueue.model.job import JobRef, NewJob
from goqueue.model.query import Enqueued, EnqueueStatus
from goqueue.store.postgres.sql import text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from goqueue.model.job import Unique
    from goqueue.model.outcome import Note
    from goqueue.store.postgres.statement import Rows

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DEFAULT: Final = NewJob[object](kind="")
_OPTIONAL: Final = tuple(
    (name, getattr(_DEFAULT, name))
    for name in (
        "tenant",
        "queue",
        "group_key",
        "priority",
        "run_at",
        "delay_s",
        "max_attempts",
        "max_crashes",
        "timeout_s",
        "schedule_to_start_s",
        "deadline_s",
        "retry",
        "tags",
        "meta",
    )
)
_encode: Final = msgspec.json.Encoder().encode


class Call(NamedTuple):
    """A statement with one parameter, a text. Its place is ``$1``, or what the driver writes instead."""

    name: str
    payload: str
    in_transaction: bool = False
    """It is refused where it would be committed at once."""

    def sql(self, place: str = "$1") -> str:
        """Return the statement with the parameter's place as this driver writes it."""
        return text(self.name).replace("$1", place)


def enqueue(jobs: Sequence[NewJob[Any]]) -> Call:
    """Return the call that stores prepared jobs."""
    return Call("enqueue_in", _encode([_job(job) for job in jobs]).decode())


def enqueued(jobs: Sequence[NewJob[Any]], rows: Rows) -> list[Enqueued]:
    """Return what `enqueue` has answered."""
    return [
        Enqueued(EnqueueStatus(status), JobRef(job.tenant, job.queue, id), _instant(created_at), _instant(run_at))
        for job, (id, status, created_at, run_at) in zip(jobs, rows, strict=True)
    ]


def complete(job_id: str, fence: int, result: bytes | None, retention_s: float | None, note: Note | None) -> Call:
    """Return the call that completes a job under its lease. ``note`` goes with it."""
    one: dict[str, object] = {"job_id": job_id, "fence": fence, "retention_s": retention_s}
    if result is not None:
        one["result"] = msgspec.Raw(result)
    if note is not None and note.progress is not None:
        one["progress"] = msgspec.Raw(note.progress)
    if note is not None and note.logs:
        one["logs"] = note.logs
    return Call("complete_in", _encode(one).decode(), in_transaction=True)


def check_completed(job_id: str, rows: Rows) -> None:
    """Raise `LeaseLost` unless `complete` has completed it now.

    Not when it was completed before: then this transaction would do a second time what was committed with the first.
    """
    if rows[0][0] != "applied":
        raise LeaseLost(f"job {job_id} was completed by this attempt before: roll this transaction back")


def _job(job: NewJob[Any]) -> dict[str, object]:
    # What is left out has the same default there; the function looks at each field that is not.
    fields = {name: value for name, default in _OPTIONAL if (value := getattr(job, name)) != default}
    fields["id"] = job.id
    fields["kind"] = job.kind
    fields["args"] = msgspec.Raw(job.args)
    if job.unique is not None:
        fields["unique"] = _unique(job.unique)
    return fields


def _unique(unique: Unique) -> dict[str, object]:
    return {
        "key": unique.key,
        "on_conflict": unique.on_conflict,
        "final_states": unique.final_states,
        "window_s": unique.window_s,
        "until_started": unique.until_started,
        "keep_run_at": unique.keep_run_at,
        "digest": unique.digest.hex(),
    }


def _instant(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else _EPOCH + timedelta(microseconds=int(microseconds))
