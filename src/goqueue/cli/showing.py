"""One job for people: all that is known of it, and every attempt that failed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from goqueue.cli.output import ago, compact, console, duration, ran_for, show_fields
from goqueue.model.state import FINAL_STATES, JobState

if TYPE_CHECKING:
    from goqueue.model.job import JobError, JobRecord
    from goqueue.model.retry import RetryDelays

REASONS = {
    "attempts": "every attempt failed",
    "not_retryable": "an error that is not retried",
    "retry_for": "tried for as long as its policy says",
    "deadline": "its total deadline passed",
    "expired": "it was not started in time",
    "crashed": "its process died under it",
}
"""What a reason of the engine's means; a handler's own words stand for themselves."""
_DUE = {
    JobState.SCHEDULED: "runs at",
    JobState.RETRYING: "next attempt",
    JobState.READY: "due since",
    JobState.BLOCKED: "not before",
}
"""What ``run_at`` is of a job that waits."""


def show_job(record: JobRecord, around: str = "") -> None:
    """Write a job. ``around``: who runs it, or why nobody takes it."""
    show_fields(_fields(record, around))
    _show_logs(record)
    _show_errors(record)


def why(record: JobRecord) -> str:
    """Say why it was cancelled, is dead or was put off."""
    if not record.reason:
        return ""
    meaning = REASONS.get(record.reason) if record.state is JobState.DEAD else None
    return f"{record.reason} ({meaning})" if meaning else record.reason


def last_error(record: JobRecord, *, short: bool) -> str:
    """Return type (``short``: without its module) and message of the last error, in one line."""
    if not record.errors:
        return ""
    error = record.errors[-1]
    name = error.type.rpartition(".")[2] if short else error.type
    return " ".join(f"{name}: {error.message}".split())


def _fields(record: JobRecord, around: str) -> list[tuple[str, object]]:
    final = record.state in FINAL_STATES
    running = record.state is JobState.RUNNING
    return [
        ("id", record.id),
        ("kind", record.kind),
        ("state", str(record.state)),
        ("reason" if final else "put off", why(record)),
        ("last error", last_error(record, short=True)),
        (_DUE.get(record.state, "was due"), record.run_at),
        ("waits because", "" if running else around),
        ("started", record.attempted_at),
        ("running for", _so_far(record.attempted_at) if running else ""),
        ("run by", (around or record.worker_id) if running else record.worker_id),
        ("finished", record.finished_at),
        ("ran for", duration(ran_for(record))),
        ("cancel asked", record.cancel_requested_at),
        ("attempt", f"{record.attempt} of {record.max_attempts}"),
        ("crashes", f"{record.crashes} of {record.max_crashes}" if record.crashes else None),
        ("progress", compact(record.progress)),
        ("args", compact(record.args)),
        ("result", compact(record.result)),
        ("queue", record.queue),
        ("priority", record.priority),
        ("timeout", duration(record.timeout_s)),
        ("start within", duration(record.schedule_to_start_s)),
        ("deadline", record.deadline_at),
        ("retry", _delays(record.retry)),
        ("unique key", record.unique_key),
        ("tags", ", ".join(record.tags)),
        ("meta", ", ".join(f"{name}={value}" for name, value in record.meta.items())),
        ("created", record.created_at),
    ]


def _so_far(since: datetime | None) -> str:
    return "" if since is None else duration(max(0.0, (datetime.now(UTC) - since).total_seconds()))


def _delays(retry: RetryDelays | None) -> str:
    if retry is None:
        return ""
    if retry.delays_s:
        text = "after " + ", ".join(f"{delay_s:g}" for delay_s in retry.delays_s) + " s"
    else:
        text = f"after {retry.base_s:g} s, then × {retry.factor:g}, at most {retry.cap_s:g} s"
    text += "" if retry.jitter == "none" else f", {retry.jitter} jitter"
    return text if retry.retry_for_s is None else f"{text}, for {retry.retry_for_s:g} s"


def _show_logs(record: JobRecord) -> None:
    from rich.text import Text

    screen = console()
    for i, log in enumerate(record.logs):
        if i == 0:
            screen.print(Text("\nlogs", style="bold"))
        line = f"{log.at:%Y-%m-%d %H:%M:%S} UTC  attempt {log.attempt}  {log.level:<7}  {log.message}"
        screen.print(Text(line, style="red" if log.level == "error" else ""))


def _show_errors(record: JobRecord) -> None:
    from rich.text import Text

    screen = console()
    # Errors are bounded: of a job with many attempts the first ones are not kept.
    first = record.errors[0].attempt if record.errors else 1
    if first > 1:
        screen.print(Text(f"\n(errors before attempt {first} are not kept)", style="dim"))
    before = ""
    for error in record.errors:
        screen.print(Text(f"\n{_heading(error)}", style="bold"))
        body = _body(error)
        if body == before:
            screen.print(Text("the same error again", style="dim"))
        else:
            screen.print(Text(body, style="red"))
        before = body


def _heading(error: JobError) -> str:
    return f"attempt {error.attempt}  {error.at:%Y-%m-%d %H:%M:%S} UTC  ({ago(error.at)})  {error.type}"


def _body(error: JobError) -> str:
    """The traceback, which ends with type and message; the message alone if there is none."""
    return error.traceback.rstrip() or error.message or error.type
