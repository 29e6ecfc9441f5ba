"""What a handler raises to decide about its own job: snooze, retry after a delay, cancel, dead.

They are exceptions, and carry ``Job`` in their names to be told from the outcomes of `goqueue.model.outcome`, which
are values: `goqueue.engine.verdict` turns one into the other. Any other exception means an ordinary failed attempt.
"""

from __future__ import annotations

from goqueue.model import limits
from goqueue.model.errors import InvalidInput


class JobSignal(Exception):
    """Root of what a handler raises as control flow; never a failure by itself."""


class SnoozeJob(JobSignal):
    """Not now: run the job again in ``delay_s`` seconds; no attempt is spent."""

    def __init__(self, delay_s: float, reason: str = "") -> None:
        self.delay_s = _delay(delay_s)
        self.reason = str(reason)  # an exception is often given
        super().__init__(delay_s, reason)  # exactly our parameters, so that it survives pickling

    def __str__(self) -> str:
        return f"snooze for {self.delay_s:g} s" + (f": {self.reason}" if self.reason else "")


class RetryJob(JobSignal):
    """This attempt failed: try again in ``delay_s`` seconds, or after the policy's own delay if it is None.

    The attempt is spent: on the last one the job is dead. Raise it ``from`` the exception that was the cause.
    """

    def __init__(self, delay_s: float | None = None, reason: str = "") -> None:
        self.delay_s = None if delay_s is None else _delay(delay_s)
        self.reason = str(reason)  # an exception is often given
        super().__init__(delay_s, reason)

    def __str__(self) -> str:
        when = "retry" if self.delay_s is None else f"retry in {self.delay_s:g} s"
        return when + (f": {self.reason}" if self.reason else "")


class CancelJob(JobSignal):
    """The job is not wanted any more: it becomes cancelled."""

    def __init__(self, reason: str = "") -> None:
        self.reason = str(reason)  # an exception is often given
        super().__init__(reason)

    def __str__(self) -> str:
        return self.reason or "cancelled by its handler"


class DeadJob(JobSignal):
    """No further attempt can help: the job becomes dead at once, whatever attempts are left."""

    def __init__(self, reason: str = "") -> None:
        self.reason = str(reason)  # an exception is often given
        super().__init__(reason)

    def __str__(self) -> str:
        return self.reason or "declared dead by its handler"


def _delay(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= limits.DELAY_S_MAX:
        return float(value)
    raise InvalidInput(f"must be from 0 to {limits.DELAY_S_MAX:g} seconds, is {value!r}", "/delay_s")
