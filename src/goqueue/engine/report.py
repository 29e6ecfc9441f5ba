"""A log line for each outcome that is not a plain success. A job that completes costs nothing here."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

import structlog

from goqueue.model.outcome import Cancel, Complete, Dead, Release, Retry, Snooze

if TYPE_CHECKING:
    from goqueue.model.job import ErrorInfo
    from goqueue.model.lease import Lease
    from goqueue.model.outcome import Outcome

log = structlog.get_logger("goqueue.engine")


def report(lease: Lease, outcome: Outcome) -> None:
    """Say what has been decided. The event is the verb."""
    match outcome:
        case Retry(delay_s=delay_s, error=error):
            log.warning("retry", **_of_job(lease), **_of_error(error), delay_s=round(delay_s, 3))
        case Dead(error=error, reason=reason):
            # `stack` is what renderers for people print as it is, on lines of its own.
            log.error("dead", **_of_job(lease), **_of_error(error), reason=reason, stack=error.traceback.rstrip())
        case Snooze(delay_s=delay_s, reason=reason):
            log.debug("snooze", **_of_job(lease), reason=reason, delay_s=round(delay_s, 3))
        case Cancel(reason=reason):
            log.info("cancel", **_of_job(lease), reason=reason)
        case Release() | Complete():
            pass  # who hands jobs back says how many and why
        case _:
            assert_never(outcome)


def _of_job(lease: Lease) -> dict[str, object]:
    return {
        "job_id": lease.id,
        "kind": lease.kind,
        "queue": lease.queue,
        "attempt": lease.attempt,
        "max_attempts": lease.max_attempts,
    }


def _of_error(error: ErrorInfo) -> dict[str, object]:
    lines = error.message.splitlines()
    return {"error_type": error.type, "error": lines[0] if lines else ""}
