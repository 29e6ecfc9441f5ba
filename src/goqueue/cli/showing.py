"""One job for people: all that is known of it, and every attempt that failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from goqueue.cli.output import ago, compact, console, duration, ran_for, show_fields

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


def show_job(record: JobRecord) -> None:
    """Write a job."""
    show_fields(_fields(record))
    _show_errors(record)


def why(record: JobRecord) -> str:
    """Say why it was cancelled or is dead."""
    if not record.reason:
        return ""
    meaning = REASONS.get(record.reason)
    return f"{record.reason} ({meaning})" if meaning else record.reason


def last_error(record: JobRecord, *, short: bool) -> str:
    """Return type (``short``: without its module) and message of the last error, in one line."""
    if not record.errors:
        return ""
    error = record.errors[-1]
    name = error.type.rpartition(".")[2] if short else error.type
    return " ".join(f"{name}: {error.message}".split())


def _fields(record: JobRecord) -> list[tuple[str, object]]:
    return [
        ("id", record.id),
        ("kind", record.kind),
        ("state", str(record.state)),
        ("reason", why(record)),
        ("queue", record.queue),
        ("priority", record.priority),
        ("attempt", f"{record.attempt} of {record.max_attempts}"),
        ("crashes", f"{record.crashes} of {record.max_crashes}" if record.crashes else None),
        ("args", compact(record.args)),
        ("result", compact(record.result)),
        ("progress", compact(record.progress)),
        ("created", record.created_at),
        ("due", record.run_at),
        ("attempted", record.attempted_at),
        ("finished", record.finished_at),
        ("ran for", duration(ran_for(record))),
        ("timeout", duration(record.timeout_s)),
        ("start within", duration(record.schedule_to_start_s)),
        ("deadline", record.deadline_at),
        ("retry", _delays(record.retry)),
        ("cancel asked", record.cancel_requested_at),
        ("unique key", record.unique_key),
        ("tags", ", ".join(record.tags)),
        ("meta", ", ".join(f"{name}={value}" for name, value in record.meta.items())),
        ("worker", record.worker_id),
    ]


def _delays(retry: RetryDelays | None) -> str:
    if retry is None:
        return ""
    if retry.delays_s:
        text = "after " + ", ".join(f"{delay_s:g}" for delay_s in retry.delays_s) + " s"
    else:
        text = f"after {retry.base_s:g} s, then × {retry.factor:g}, at most {retry.cap_s:g} s"
    text += "" if retry.jitter == "none" else f", {retry.jitter} jitter"
    return text if retry.retry_for_s is None else f"{text}, for {retry.retry_for_s:g} s"


def _show_errors(record: JobRecord) -> None:
    from rich.text import Text

    screen = console()
    # Errors are bounded: of a job with many attempts the first ones are not kept.
    first = record.errors[0].attempt if record.errors else 1
    if first > 1:
        screen.print(Text(f"\n(errors before attempt {first} are not kept)", style="dim"))
    for error in record.errors:
        screen.print(Text(f"\n{_heading(error)}", style="bold"))
        screen.print(Text(_body(error), style="red"))


def _heading(error: JobError) -> str:
    return f"attempt {error.attempt}  {error.at:%Y-%m-%d %H:%M:%S} UTC  ({ago(error.at)})  {error.type}"


def _body(error: JobError) -> str:
    """The traceback, which ends with type and message; the message alone if there is none."""
    return error.traceback.rstrip() or error.message or error.type
