"""What becomes of an attempt: one pure function from what the handler did to an `Outcome`."""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, Protocol

from goqueue.engine.failure import DeadlineExceeded, HandlerDied, HandlerNotStarted, describe
from goqueue.model import limits
from goqueue.model.errors import InvalidInput
from goqueue.model.outcome import Cancel, Complete, Crash, Dead, Outcome, Release, Retry, Snooze
from goqueue.tasks.cutting import cut
from goqueue.tasks.signals import CancelJob, DeadJob, RetryJob, SnoozeJob

if TYPE_CHECKING:
    from goqueue.model.lease import Lease
    from goqueue.tasks.retry import RetryPolicy


class Stop(Enum):
    """Why the engine told a running handler to stop."""

    NONE = auto()
    TIMEOUT = auto()
    """It ran for longer than ``timeout_s``."""
    DEADLINE = auto()
    """The total deadline of its job has come."""
    CANCEL = auto()
    """Somebody wants the job cancelled."""
    HAND_BACK = auto()
    """The worker stops, or its lease is over: somebody else shall run the job."""

    @property
    def spoils(self) -> bool:
        """Whether what the handler returns later does not count."""
        return self in (Stop.TIMEOUT, Stop.DEADLINE)


class Encoder(Protocol):
    """How a task turns what its handler returned into the JSON that is kept."""

    def encode_result(self, value: object) -> bytes | None:
        """Return JSON, None for no result. Raises `InvalidInput` for what cannot be kept."""
        ...


COMPLETE: Final = Complete()
RELEASE: Final = Release()
CANCELLED: Final = Cancel("cancelled on request")


def verdict(
    returned: object,
    raised: BaseException | None,
    *,
    lease: Lease,
    task: Encoder,
    policy: RetryPolicy,
    stop: Stop,
    random01: float,
    since_claim_s: float = 0.0,
) -> Outcome:
    """Judge one attempt: what it ``returned``, or what it ``raised`` if that is not None.

    ``stop`` is why the engine interrupted it, `Stop.NONE` if it did not. ``random01`` is a number in [0, 1).
    ``since_claim_s`` are the seconds since the claim that the lease came from. (The clock is asked for one thing only:
    a ``Retry-After`` that is a date, in an answer that has none of its own.)
    """
    if stop is not Stop.NONE:
        # An attempt that came to a natural end although it had been told to stop has done its work; except for a
        # timeout and a deadline, which are promises that later results do not count.
        if stop is Stop.TIMEOUT:
            raised = _because(_timed_out(lease), raised)
        elif stop is Stop.DEADLINE:
            return _past_deadline("its total deadline (deadline_s) came while it ran", raised)
        elif raised is not None and not isinstance(raised, SnoozeJob | RetryJob | CancelJob | DeadJob):
            return CANCELLED if stop is Stop.CANCEL else RELEASE
    if raised is None:
        try:
            result = task.encode_result(returned)
            _check_size(result)
        except Exception as error:
            raised = error
        else:
            return COMPLETE if result is None else Complete(result)
    try:
        return _failed(raised, lease, policy, random01, since_claim_s)
    except Exception as broken:
        # A signal of the user's own class without the fields of ours, an error whose text cannot be made: whatever it
        # is, the attempt has failed. Without an outcome the job would be handed back and run again, for ever.
        numbers = lease.retry or policy
        wait_s = numbers.delay_s(lease.attempt, random01)
        return _again(_because(broken, raised), lease, wait_s, numbers.retry_for_s, since_claim_s)


def overdue(lease: Lease, since_claim_s: float) -> Dead | None:
    """Tell what becomes of a job that has not started ``since_claim_s`` after its claim: None if it still may start."""
    if lease.deadline_in_s is not None and since_claim_s >= lease.deadline_in_s:
        return _past_deadline("its total deadline (deadline_s) came before it was started", None)
    if lease.start_in_s is not None and since_claim_s >= lease.start_in_s:
        late = DeadlineExceeded("no worker started it in time (schedule_to_start_s)")
        return Dead(describe(late), "expired")
    return None


def _failed(raised: BaseException, lease: Lease, policy: RetryPolicy, random01: float, since_claim_s: float) -> Outcome:
    cause: BaseException = raised
    wait_s: float | None
    match raised:
        case SnoozeJob():
            return Snooze(_asked_s(raised.delay_s), cut(raised.reason, limits.REASON_CHARS_MAX))
        case CancelJob():
            return Cancel(cut(str(raised), limits.REASON_CHARS_MAX))
        case DeadJob():
            return Dead(describe(raised), cut(str(raised), limits.REASON_CHARS_MAX))
        case HandlerDied():
            return Crash(describe(raised))
        case HandlerNotStarted():
            # Not the job's doing: no rule about its errors makes it dead. An attempt is spent, so that there is an end.
            wait_s = (lease.retry or policy).delay_s(lease.attempt, random01)
        case RetryJob():
            # The handler wants another attempt, whatever the policy says of the error that it may have raised it from.
            cause = raised.__cause__ or raised
            wait_s = raised.delay_s
            if wait_s is not None:
                wait_s = _asked_s(wait_s)
            else:
                wait_s = policy.wait_s(cause, lease.attempt, random01, lease.retry)
            if wait_s is None:
                wait_s = (lease.retry or policy).delay_s(lease.attempt, random01)
        case _:
            wait_s = policy.wait_s(raised, lease.attempt, random01, lease.retry)
            if wait_s is None:
                return Dead(describe(raised), "not_retryable")
    return _again(raised, lease, wait_s, policy.tried_for_max_s(cause, lease.retry), since_claim_s)


def _again(
    raised: BaseException, lease: Lease, wait_s: float, tried_for_max_s: float | None, since_claim_s: float
) -> Outcome:
    if lease.attempt >= lease.max_attempts:
        return Dead(describe(raised), "attempts")
    delay_s = min(max(wait_s, 0.0), limits.DELAY_S_MAX)
    if tried_for_max_s is not None and lease.tried_for_s + since_claim_s + delay_s > tried_for_max_s:
        return Dead(describe(raised), "retry_for")
    if lease.deadline_in_s is not None and since_claim_s + delay_s >= lease.deadline_in_s:
        return _past_deadline("its next attempt would start after its total deadline (deadline_s)", raised)
    return Retry(delay_s, describe(raised))


def _asked_s(delay_s: float) -> float:
    """Look again at what the constructor of the signal has checked, if it was called."""
    if not 0 <= delay_s <= limits.DELAY_S_MAX:  # NaN is within nothing
        raise InvalidInput(f"must be from 0 to {limits.DELAY_S_MAX:g} seconds, is {delay_s!r}", "/delay_s")
    return delay_s


def _timed_out(lease: Lease) -> TimeoutError:
    return TimeoutError(f"ran for longer than its timeout of {lease.timeout_s:g} s" if lease.timeout_s else "timed out")


def _past_deadline(message: str, raised: BaseException | None) -> Dead:
    return Dead(describe(_because(DeadlineExceeded(message), raised)), "deadline")


def _because(error: Exception, raised: BaseException | None) -> Exception:
    """Tell ``error`` with the place where the handler was, or what it had raised."""
    if raised is not None:
        error.__cause__ = raised
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
