"""The verdict, as a table and as laws."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from goqueue.engine.failure import HandlerDied, HandlerHung, HandlerNotStarted, describe
from goqueue.engine.verdict import Stop, overdue, verdict
from goqueue.model import limits
from goqueue.model.lease import Lease
from goqueue.model.outcome import Cancel, Complete, Crash, Dead, Outcome, Release, Retry, Snooze
from goqueue.tasks.app import GoQueue
from goqueue.tasks.cutting import cut
from goqueue.tasks.retry import RetryPolicy
from goqueue.tasks.signals import CancelJob, DeadJob, RetryJob, SnoozeJob

NOW = datetime(2026, 1, 1, tzinfo=UTC)
app = GoQueue()


@app.task
def anything() -> object: ...


def lease(attempt: int = 1, max_attempts: int = 20, timeout_s: float | None = None, **more: object) -> Lease:
    made = Lease(
        id="x",
        tenant="default",
        queue="default",
        kind="anything",
        args=b"{}",
        fence=7,
        attempt=attempt,
        max_attempts=max_attempts,
        crashes=0,
        priority=5,
        timeout_s=timeout_s,
        created_at=NOW,
        run_at=NOW,
        meta=None,
    )
    return msgspec.structs.replace(made, **more)


def judge(
    returned: object = None,
    raised: BaseException | None = None,
    *,
    of: Lease | None = None,
    policy: RetryPolicy | None = None,
    stop: Stop = Stop.NONE,
    random01: float = 0.5,
    since_claim_s: float = 0.0,
) -> Outcome:
    return verdict(
        returned,
        raised,
        lease=of or lease(),
        task=anything,
        policy=policy or RetryPolicy.fixed(8.0, no_retry_on=(KeyError,)),
        stop=stop,
        random01=random01,
        since_claim_s=since_claim_s,
    )


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


LAST = lease(attempt=20)
TRIED = RetryPolicy.fixed(8.0, retry_for_s=60.0)

TABLE = [
    # returned, raised, lease, stop -> type of the outcome, what is told of it
    (None, None, lease(), Stop.NONE, Complete, {"result": None}),
    ({"a": 1}, None, lease(), Stop.NONE, Complete, {"result": b'{"a":1}'}),
    (None, ValueError("no"), lease(), Stop.NONE, Retry, {"delay_s": 8.0}),
    (None, ValueError("no"), LAST, Stop.NONE, Dead, {"reason": "attempts"}),
    (None, ValueError("no"), lease(attempt=10**6, max_attempts=1), Stop.NONE, Dead, {"reason": "attempts"}),
    (None, KeyError("no"), lease(), Stop.NONE, Dead, {"reason": "not_retryable"}),
    (None, SnoozeJob(3.0, "later"), LAST, Stop.NONE, Snooze, {"delay_s": 3.0, "reason": "later"}),
    (None, RetryJob(4.0, "again"), lease(), Stop.NONE, Retry, {"delay_s": 4.0}),
    (None, RetryJob(), lease(), Stop.NONE, Retry, {"delay_s": 8.0}),
    (None, RetryJob(4.0), LAST, Stop.NONE, Dead, {"reason": "attempts"}),
    (None, CancelJob("unwanted"), lease(), Stop.NONE, Cancel, {"reason": "unwanted"}),
    (None, DeadJob("hopeless"), lease(), Stop.NONE, Dead, {"reason": "hopeless"}),
    (None, SystemExit(3), lease(), Stop.NONE, Retry, {"delay_s": 8.0}),
    (None, KeyboardInterrupt(), lease(), Stop.NONE, Retry, {"delay_s": 8.0}),
    (None, asyncio.CancelledError(), lease(), Stop.NONE, Retry, {"delay_s": 8.0}),
    (None, MemoryError(), lease(), Stop.NONE, Retry, {"delay_s": 8.0}),
    (None, RecursionError(), LAST, Stop.NONE, Dead, {"reason": "attempts"}),
    (object(), None, lease(), Stop.NONE, Retry, {"delay_s": 8.0}),
    ("x" * 70_000, None, lease(), Stop.NONE, Retry, {"delay_s": 8.0}),
    (float("nan"), None, lease(), Stop.NONE, Retry, {"delay_s": 8.0}),
    (None, asyncio.CancelledError(), lease(timeout_s=1), Stop.TIMEOUT, Retry, {"delay_s": 8.0}),
    ("late", None, lease(timeout_s=1), Stop.TIMEOUT, Retry, {"delay_s": 8.0}),
    (None, CancelJob(), lease(timeout_s=1), Stop.TIMEOUT, Retry, {"delay_s": 8.0}),
    (None, asyncio.CancelledError(), lease(20, timeout_s=1), Stop.TIMEOUT, Dead, {"reason": "attempts"}),
    (None, asyncio.CancelledError(), lease(), Stop.CANCEL, Cancel, {"reason": "cancelled on request"}),
    (None, ValueError("torn"), lease(), Stop.CANCEL, Cancel, {"reason": "cancelled on request"}),
    ("done", None, lease(), Stop.CANCEL, Complete, {"result": b'"done"'}),
    (None, asyncio.CancelledError(), LAST, Stop.HAND_BACK, Release, {}),
    (None, HandlerHung("stuck"), LAST, Stop.HAND_BACK, Release, {}),
    ("done", None, lease(), Stop.HAND_BACK, Complete, {"result": b'"done"'}),
    (None, DeadJob("hopeless"), lease(), Stop.HAND_BACK, Dead, {"reason": "hopeless"}),
    # the process died under it: a crash, unless we killed it
    (None, HandlerDied("SIGSEGV"), LAST, Stop.NONE, Crash, {}),
    (None, HandlerDied("SIGKILL"), lease(), Stop.CANCEL, Cancel, {"reason": "cancelled on request"}),
    (None, HandlerDied("SIGKILL"), lease(), Stop.HAND_BACK, Release, {}),
    (None, HandlerDied("SIGKILL"), lease(timeout_s=1), Stop.TIMEOUT, Retry, {"delay_s": 8.0}),
    (None, HandlerDied("SIGKILL"), lease(deadline_in_s=1.0), Stop.DEADLINE, Dead, {"reason": "deadline"}),
    (None, HandlerNotStarted("no memory"), lease(), Stop.NONE, Retry, {"delay_s": 8.0}),
    # the total deadline
    ("late", None, lease(deadline_in_s=1.0), Stop.DEADLINE, Dead, {"reason": "deadline"}),
    (None, CancelJob(), lease(deadline_in_s=1.0), Stop.DEADLINE, Dead, {"reason": "deadline"}),
    (None, ValueError("no"), lease(deadline_in_s=8.0), Stop.NONE, Dead, {"reason": "deadline"}),
    (None, ValueError("no"), lease(deadline_in_s=8.1), Stop.NONE, Retry, {"delay_s": 8.0}),
    (None, RetryJob(9.0), lease(deadline_in_s=8.1), Stop.NONE, Dead, {"reason": "deadline"}),
    (None, ValueError("no"), lease(20, deadline_in_s=1.0), Stop.NONE, Dead, {"reason": "attempts"}),
    # numbers of the job itself
    (None, ValueError("no"), lease(retry=RetryPolicy.fixed(3.0)), Stop.NONE, Retry, {"delay_s": 3.0}),
    (None, KeyError("no"), lease(retry=RetryPolicy.fixed(3.0)), Stop.NONE, Dead, {"reason": "not_retryable"}),
    (None, RetryJob(), lease(retry=RetryPolicy.fixed(3.0)), Stop.NONE, Retry, {"delay_s": 3.0}),
    # for how long it is tried
    (None, ValueError("no"), lease(tried_for_s=52.0, retry=TRIED), Stop.NONE, Retry, {"delay_s": 8.0}),
    (None, ValueError("no"), lease(tried_for_s=52.1, retry=TRIED), Stop.NONE, Dead, {"reason": "retry_for"}),
    (None, RetryJob(60.5), lease(retry=TRIED), Stop.NONE, Dead, {"reason": "retry_for"}),
    (None, SnoozeJob(60.5), lease(retry=TRIED), Stop.NONE, Snooze, {"delay_s": 60.5}),
]


@pytest.mark.parametrize("returned,raised,of,stop,kind,told", TABLE)
def test_table(
    returned: object,
    raised: BaseException | None,
    of: Lease,
    stop: Stop,
    kind: type[Outcome],
    told: dict[str, object],
) -> None:
    outcome = judge(returned, raised, of=of, stop=stop)
    assert type(outcome) is kind
    assert {name: getattr(outcome, name) for name in told} == told


def test_a_timeout_is_told_as_such_with_the_place_where_it_struck() -> None:
    def busy_place() -> None:
        raise asyncio.CancelledError

    try:
        busy_place()
    except asyncio.CancelledError as error:
        outcome = judge(raised=error, of=lease(timeout_s=1.5), stop=Stop.TIMEOUT)
    assert isinstance(outcome, Retry)
    assert outcome.error.type == "TimeoutError"
    assert "1.5 s" in outcome.error.message
    assert "busy_place" in outcome.error.traceback


def test_a_result_that_is_too_large_says_so() -> None:
    outcome = judge("x" * 70_000)
    assert isinstance(outcome, Retry)
    assert str(limits.RESULT_BYTES_MAX) in outcome.error.message


def test_an_error_without_words_is_still_an_error() -> None:
    outcome = judge(raised=Unspeakable())
    assert isinstance(outcome, Retry)
    assert outcome.error.type.endswith("Unspeakable")
    assert "RuntimeError" in outcome.error.message


def test_ten_megabytes_of_error_text_are_cut_with_a_mark() -> None:
    info = describe(ValueError("begin" + "x" * 10_000_000 + "end"))
    assert len(info.message) <= limits.ERROR_MESSAGE_CHARS_MAX
    assert info.message.startswith("begin")
    assert info.message.endswith("end")
    assert "cut" in info.message
    assert len(info.traceback) <= limits.ERROR_TRACEBACK_CHARS_MAX


def test_a_deep_recursion_is_told_by_its_innermost_frames() -> None:
    def fall(depth: int) -> int:
        return fall(depth + 1) + 1

    try:
        fall(0)
    except RecursionError as error:
        info = describe(error)
    assert info.type == "RecursionError"
    assert "fall" in info.traceback


@given(st.text(st.characters(codec=None), max_size=300), st.integers(1, 200))
def test_what_is_cut_can_be_stored(text: str, chars_max: int) -> None:
    result = cut(text, chars_max)
    assert len(result) <= chars_max
    assert "\0" not in result
    result.encode()


@given(
    st.integers(1, 10**6),
    st.integers(1, limits.MAX_ATTEMPTS_MAX),
    st.floats(0, 1, exclude_max=True),
    st.floats(0, limits.DELAY_S_MAX),
    st.sampled_from(list(Stop)),
    st.sampled_from(
        [ValueError("x"), KeyError("x"), SystemExit(1), asyncio.CancelledError(), RetryJob(5.0), RetryJob()]
    ),
)
def test_laws_of_failure(
    attempt: int, max_attempts: int, random01: float, base_s: float, stop: Stop, raised: BaseException
) -> None:
    of = lease(attempt, max_attempts, timeout_s=1)
    policy = RetryPolicy.exponential(base_s=base_s, cap_s=limits.DELAY_S_MAX)
    outcome = judge(raised=raised, of=of, policy=policy, stop=stop, random01=random01)
    match outcome:
        case Retry():
            assert attempt < max_attempts
            assert 0 <= outcome.delay_s <= limits.DELAY_S_MAX
        case Dead():
            assert attempt >= max_attempts or stop is Stop.DEADLINE
            assert outcome.reason == ("deadline" if stop is Stop.DEADLINE else "attempts")
        case Cancel():
            assert stop is Stop.CANCEL
        case Release():
            assert stop is Stop.HAND_BACK
        case _:
            raise AssertionError(outcome)


def test_the_time_that_an_attempt_has_taken_counts() -> None:
    tried = lease(tried_for_s=40.0, retry=TRIED)
    assert isinstance(judge(raised=ValueError(), of=tried, since_claim_s=12.0), Retry)
    assert judge(raised=ValueError(), of=tried, since_claim_s=12.1) == Dead(describe(ValueError()), "retry_for")
    ending = lease(deadline_in_s=60.0)
    assert isinstance(judge(raised=ValueError(), of=ending, since_claim_s=51.9), Retry)
    assert isinstance(judge(raised=ValueError(), of=ending, since_claim_s=52.0), Dead)


def test_what_an_error_was_raised_from_says_when_to_come_back() -> None:
    policy = RetryPolicy.fixed(8.0, no_retry_on=(KeyError,)).on(OSError, RetryPolicy.fixed(2.0))
    for cause, delay_s in ((OSError(), 2.0), (KeyError(), 8.0), (ValueError(), 8.0)):
        signal = RetryJob()
        signal.__cause__ = cause
        outcome = judge(raised=signal, policy=policy)
        assert isinstance(outcome, Retry)
        assert outcome.delay_s == delay_s
    busy = OSError()
    busy.retry_after_s = 70  # type: ignore[attr-defined] # as users do
    asked = judge(raised=busy, policy=policy)
    assert isinstance(asked, Retry)
    assert asked.delay_s == 70
    own = RetryJob(3.0)
    own.__cause__ = busy
    handlers = judge(raised=own, policy=policy)
    assert isinstance(handlers, Retry)
    assert handlers.delay_s == 3.0


def test_that_no_process_would_start_is_not_the_jobs_doing() -> None:
    policy = RetryPolicy.fixed(8.0, no_retry_on=(Exception,))
    outcome = judge(raised=HandlerNotStarted("no more processes"), policy=policy)
    assert isinstance(outcome, Retry)
    assert outcome.delay_s == 8.0
    assert isinstance(judge(raised=HandlerNotStarted("x"), of=lease(attempt=20), policy=policy), Dead)


class _Half(RetryJob):
    def __init__(self) -> None:
        """Does not call ours."""


class _Mute(DeadJob):
    def __str__(self) -> str:
        raise ValueError("no words")


def _changed(signal: RetryJob | SnoozeJob, delay_s: object) -> Exception:
    signal.delay_s = delay_s  # type: ignore[assignment] # as users may
    return signal


@pytest.mark.parametrize(
    "signal",
    [
        _Half(),
        _Mute("x"),
        _changed(RetryJob(), float("nan")),
        _changed(SnoozeJob(1), -1),
        _changed(SnoozeJob(1), "x"),
        _changed(RetryJob(), 1e300),
    ],
    ids=["half made", "mute", "NaN", "negative", "text", "huge"],
)
@pytest.mark.parametrize("attempt", [1, 20])
def test_a_broken_signal_is_a_failed_attempt_that_says_what_is_broken(signal: Exception, attempt: int) -> None:
    outcome = judge(raised=signal, of=lease(attempt=attempt), policy=RetryPolicy.fixed(8.0))
    assert isinstance(outcome, Retry if attempt == 1 else Dead)
    assert outcome.error.type in ("AttributeError", "ValueError", "TypeError", "goqueue.model.errors.InvalidInput")
    if isinstance(outcome, Retry):
        assert outcome.delay_s == 8.0


def test_a_reason_may_be_an_exception() -> None:
    why = LookupError("gone")
    assert judge(raised=SnoozeJob(1.0, why)) == Snooze(1.0, "gone")  # type: ignore[arg-type] # as users do
    assert judge(raised=CancelJob(why)) == Cancel("gone")  # type: ignore[arg-type] # as above
    dead = judge(raised=DeadJob(why))  # type: ignore[arg-type] # as above
    assert isinstance(dead, Dead)
    assert dead.reason == "gone"


@pytest.mark.parametrize("stop", [Stop.NONE, Stop.DEADLINE])
def test_a_deadline_is_told_as_such_with_what_the_handler_raised(stop: Stop) -> None:
    outcome = judge(raised=ValueError("the cause"), of=lease(deadline_in_s=1.0), stop=stop)
    assert isinstance(outcome, Dead)
    assert outcome.error.type == "DeadlineExceeded"
    assert "deadline_s" in outcome.error.message
    assert "ValueError: the cause" in outcome.error.traceback


def test_a_crash_says_how_its_process_died() -> None:
    outcome = judge(raised=HandlerDied("killed by SIGSEGV"))
    assert isinstance(outcome, Crash)
    assert (outcome.error.type, outcome.error.message) == ("HandlerDied", "killed by SIGSEGV")


@pytest.mark.parametrize(
    "start_in_s,deadline_in_s,reason",
    [
        (None, None, None),
        (5.0, None, None),
        (4.0, None, "expired"),
        (-1.0, None, "expired"),
        (None, 5.0, None),
        (None, 4.0, "deadline"),
        (-1.0, 4.0, "deadline"),
        (5.0, 5.0, None),
    ],
)
def test_what_is_too_late_when_its_turn_comes(
    start_in_s: float | None, deadline_in_s: float | None, reason: str | None
) -> None:
    late = overdue(lease(start_in_s=start_in_s, deadline_in_s=deadline_in_s), 4.0)
    assert (late and late.reason) == reason
    assert late is None or late.error.type == "DeadlineExceeded"
