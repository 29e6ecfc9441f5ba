"""A log line for each outcome that is not a plain success, up to a bound. A job that completes costs nothing here."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, assert_never

import structlog

from goqueue.model.outcome import Cancel, Complete, Crash, Dead, Release, Retry, Snooze

if TYPE_CHECKING:
    import asyncio

    from goqueue.model.job import ErrorInfo
    from goqueue.model.lease import Lease
    from goqueue.model.outcome import Outcome

LINES_MAX: Final = 20
"""Lines of one event and kind of job in `WINDOW_S`; the others are counted, and the count is one line at its end."""
WINDOW_S: Final = 1.0
WINDOWS_MAX: Final = 1_000
"""Events and kinds that are counted apart; what comes beyond shares one count."""

log = structlog.get_logger("goqueue.engine")


class Reporter:
    """Says what became of attempts, however many fail: a broken service behind a fast queue must not fill the disk."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._told: dict[tuple[type[Outcome], str], int] = {}
        self._turn: asyncio.TimerHandle | None = None

    def report(self, lease: Lease, outcome: Outcome) -> None:
        """Say it, or count it."""
        if isinstance(outcome, Release | Complete):
            return
        key = (type(outcome), lease.kind)
        if key not in self._told and len(self._told) >= WINDOWS_MAX:
            key = (type(outcome), "")
        told = self._told[key] = self._told.get(key, 0) + 1
        if self._turn is None:
            self._turn = self._loop.call_later(WINDOW_S, self._tell_rest)
        if told <= LINES_MAX:
            report(lease, outcome)

    def close(self) -> None:
        """Tell what has been left out so far. Idempotent."""
        if self._turn is not None:
            self._turn.cancel()
            self._tell_rest()

    def _tell_rest(self) -> None:
        self._turn = None
        told, self._told = self._told, {}
        for (outcome, kind), count in told.items():
            if count > LINES_MAX:
                log.warning(
                    "suppress",
                    outcome=outcome.__name__.lower(),
                    kind=kind or "others",
                    lines=count - LINES_MAX,
                    reason=f"more than {LINES_MAX} in {WINDOW_S:g} s; their errors are kept with the jobs",
                )


def report(lease: Lease, outcome: Outcome) -> None:
    """Say what has been decided. The event is the verb."""
    match outcome:
        case Retry(delay_s=delay_s, error=error):
            log.warning("retry", **_of_job(lease), **_of_error(error), delay_s=round(delay_s, 3))
        case Dead(error=error, reason=reason):
            # `stack` is what renderers for people print as it is, on lines of its own.
            log.error("dead", **_of_job(lease), **_of_error(error), reason=reason, stack=error.traceback.rstrip())
        case Crash(error=error):
            _report_crash(lease, error)
        case Snooze(delay_s=delay_s, reason=reason):
            log.debug("snooze", **_of_job(lease), reason=reason, delay_s=round(delay_s, 3))
        case Cancel(reason=reason):
            log.info("cancel", **_of_job(lease), reason=reason)
        case Release() | Complete():
            pass  # who hands jobs back says how many and why
        case _:
            assert_never(outcome)


def _report_crash(lease: Lease, error: ErrorInfo) -> None:
    """Say whether it was the last: the store decides, and by this rule."""
    crashes = lease.crashes + 1
    told = {**_of_job(lease), **_of_error(error), "crashes": crashes, "max_crashes": lease.max_crashes}
    if crashes >= (lease.max_crashes or math.inf) or lease.attempt >= lease.max_attempts:
        log.error("dead", **told, reason="crashed")
    else:
        log.error("crash", **told)


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
