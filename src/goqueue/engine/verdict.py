"""What becomes of an attempt: one pure function from what the handler did to an `Outcome`."""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, Protocol

from goqueue.engine.failure import cut, describe
from goqueue.model import limits
from goqueue.model.errors import InvalidInput
from goqueue.model.outcome import Cancel, Complete, Dead, Outcome, Release, Retry, Snooze
from goqueue.tasks.signals import CancelJob, DeadJob, RetryJob, SnoozeJob

if TYPE_CHECKING:
    from goqueue.model.job import ErrorInfo
    from goqueue.model.lease import Lease
    from goqueue.tasks.retry import RetryPolicy


class Stop(Enum):
    """Why the engine told a running handler to stop."""

    NONE = auto()
    TIMEOUT = auto()
    """It ran for longer than ``timeout_s``."""
    CANCEL = auto()
    """Somebody wants the job cancelled."""
    HAND_BACK = auto()
    """The worker stops, or its lease is over: somebody else shall run the job."""


class Encoder(Protocol):
    """How a task turns what its handler returned into the JSON that is kept."""

    def encode_result(self, value: object) -> bytes | None:
        """Return JSON, None for no result. Raises `InvalidInput` for what cannot be kept."""
        ...


COMPLETE: Final = Complete()
RELEASE: Final = Release()


def verdict(
    returned: object,
    raised: BaseException | None,
    *,
    lease: Lease,
    task: Encoder,
    policy: RetryPolicy,
    stop: Stop,
    random01: float,
) -> Outcome:
    """Judge one attempt: what it ``returned``, or what it ``raised`` if that is not None.

    ``stop`` is why the engine interrupted it, `Stop.NONE` if it did not. ``random01`` is a number in [0, 1).
    """
    if stop is not Stop.NONE:
        # An attempt that came to a natural end although it had been told to stop has done its work; except for a
        # timeout, which is a promise that later results do not count.
        if stop is Stop.TIMEOUT:
            raised = _timed_out(lease, raised)
        elif raised is not None and not isinstance(raised, SnoozeJob | RetryJob | CancelJob | DeadJob):
            return Cancel("cancelled on request") if stop is Stop.CANCEL else RELEASE
    if raised is None:
        try:
            result = task.encode_result(returned)
            _check_size(result)
        except Exception as error:
            raised = error
        else:
            return COMPLETE if result is None else Complete(result)
    return _failed(raised, lease, policy, random01)


def _failed(raised: BaseException, lease: Lease, policy: RetryPolicy, random01: float) -> Outcome:
    match raised:
        case SnoozeJob():
            return Snooze(raised.delay_s, cut(raised.reason, limits.REASON_CHARS_MAX))
        case CancelJob():
            return Cancel(cut(str(raised), limits.REASON_CHARS_MAX))
        case DeadJob():
            return Dead(describe(raised), cut(str(raised), limits.REASON_CHARS_MAX))
        case RetryJob(delay_s=float() as delay_s):
            return _again(describe(raised), lease, delay_s)
        case _ if not policy.retries(raised):
            return Dead(describe(raised), "not_retryable")
        case _:
            return _again(describe(raised), lease, policy.delay_s(lease.attempt, random01))


def _again(error: ErrorInfo, lease: Lease, delay_s: float) -> Outcome:
    if lease.attempt >= lease.max_attempts:
        return Dead(error, "attempts")
    return Retry(min(max(delay_s, 0.0), limits.DELAY_S_MAX), error)


def _timed_out(lease: Lease, raised: BaseException | None) -> TimeoutError:
    error = TimeoutError(
        f"ran for longer than its timeout of {lease.timeout_s:g} s" if lease.timeout_s else "timed out"
    )
    if raised is not None:
        error.__cause__ = raised  # its traceback says where the handler was
        if isinstance(raised, asyncio.CancelledError):
            error.__suppress_context__ = True
    return error


def _check_size(result: bytes | None) -> None:
    if result is not None and len(result) > limits.RESULT_BYTES_MAX:
        raise InvalidInput(
            f"must have at most {limits.RESULT_BYTES_MAX} bytes as JSON, has {len(result)}: "
            "keep large results elsewhere and return where",
            "/result",
        )
