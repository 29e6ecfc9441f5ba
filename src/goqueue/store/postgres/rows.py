"""Rows to model values. Columns come in the order of ``queries/parts/job_record.sql`` and each statement's header."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from goqueue.model.job import JobError, JobLog, JobRecord
from goqueue.model.lease import WorkerRecord
from goqueue.model.retry import RetryDelays
from goqueue.model.state import public_state
from goqueue.store.postgres.pack import uuid_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

_errors = msgspec.json.Decoder(tuple[JobError, ...])
_logs = msgspec.json.Decoder(tuple[JobLog, ...])
_meta = msgspec.json.Decoder(dict[str, str])
_retry = msgspec.json.Decoder(RetryDelays)


def job_record(row: tuple[Any, ...]) -> JobRecord:
    """Read a job record, then finished_at, result, reason and the store's now."""
    (
        id, kind, args, queue, priority, state, attempt, max_attempts, crashes, max_crashes, run_at, created_at,
        attempted_at, timeout_s, tags, meta, unique_key, errors, progress, cancel_requested_at, worker_id, tenant,
        retry, schedule_to_start_s, deadline_at, logs, finished_at, result, reason, now,
    ) = row  # fmt: skip
    return JobRecord(
        id=id,
        kind=kind,
        args=msgspec.Raw(args),
        queue=queue,
        priority=priority,
        state=public_state(state, run_at, attempt, now),
        attempt=attempt,
        max_attempts=max_attempts,
        crashes=crashes,
        max_crashes=max_crashes,
        run_at=utc(run_at),
        created_at=utc(created_at),
        attempted_at=attempted_at and utc(attempted_at),
        finished_at=finished_at and utc(finished_at),
        timeout_s=timeout_s,
        schedule_to_start_s=schedule_to_start_s,
        deadline_at=deadline_at and utc(deadline_at),
        retry=None if retry is None else _retry.decode(retry),
        tags=tuple(tags) if tags else (),
        meta=_meta.decode(meta) if meta else {},
        unique_key=unique_key,
        result=None if result is None else msgspec.Raw(result),
        errors=_errors.decode(errors) if errors else (),
        reason=reason,
        progress=None if progress is None else msgspec.Raw(progress),
        logs=_logs.decode(logs) if logs else (),
        cancel_requested_at=cancel_requested_at and utc(cancel_requested_at),
        worker_id=worker_id,
        tenant=tenant,
    )


def worker_record(row: tuple[Any, ...]) -> WorkerRecord:
    """Read a row of ``queries/workers.sql``."""
    (
        id, name, host, pid, version, queues, kinds, concurrency, running, idle, draining,
        started_at, beat_at, expires_at, left_s,
    ) = row  # fmt: skip
    return WorkerRecord(
        id=id,
        name=name,
        host=host,
        pid=pid,
        version=version,
        queues=tuple(queues),
        kinds=tuple(kinds),
        concurrency=concurrency,
        running=running,
        idle=idle,
        draining=draining,
        started_at=utc(started_at),
        beat_at=utc(beat_at),
        expires_at=utc(expires_at),
        left_s=left_s,
    )


def utc(value: datetime) -> datetime:
    """Return the same instant in UTC, whatever the session's time zone."""
    return value if value.tzinfo is UTC else value.astimezone(UTC)


def earliest_expiry(ids: Sequence[str]) -> date:
    """Return the first day on which a final job with one of these ids can expire: it cannot before it was created.

    A UUIDv7 begins with its milliseconds since 1970. A day is taken off for clocks that are ahead, and an id that
    claims to be from the future counts as made today.
    """
    milliseconds = min((int.from_bytes(uuid_bytes(id)[:6], "big") for id in ids), default=0)
    today_ms = time.time() * 1000
    return datetime.fromtimestamp(min(milliseconds, today_ms) / 1000, UTC).date() - timedelta(days=1)
