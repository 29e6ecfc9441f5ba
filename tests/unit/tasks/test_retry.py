"""Delays between attempts, and the signals that a handler raises."""

from __future__ import annotations

import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goqueue.model import limits
from goqueue.model.errors import DefinitionError, InvalidInput
from goqueue.tasks.retry import DEFAULT_RETRY, Jitter, RetryPolicy
from goqueue.tasks.signals import CancelJob, DeadJob, JobSignal, RetryJob, SnoozeJob

HALF = 0.5


def test_the_default_doubles_from_two_seconds_to_an_hour_and_leaves_half_to_chance() -> None:
    assert [DEFAULT_RETRY.delay_s(n, 0.0) for n in (1, 2, 3)] == [1, 2, 4]
    assert [DEFAULT_RETRY.delay_s(n, 0.999999) for n in (1, 2, 3)] == pytest.approx([2, 4, 8], rel=1e-5)
    assert DEFAULT_RETRY.delay_s(19, 0.0) == 1800
    whole = sum(DEFAULT_RETRY.delay_s(n, HALF) for n in range(1, 20))
    assert 6 * 3600 < whole < 9 * 3600


def test_full_jitter_begins_at_zero() -> None:
    policy = RetryPolicy.exponential(base_s=1, cap_s=8, jitter=Jitter.FULL)
    assert [policy.delay_s(n, HALF) for n in (1, 2, 3, 4, 5)] == [0.5, 1, 2, 4, 4]
    assert policy.delay_s(4, 0.0) == 0


def test_fixed_and_list_have_no_jitter_unless_asked_for() -> None:
    assert [RetryPolicy.fixed(3).delay_s(n, HALF) for n in (1, 2, 10**6)] == [3, 3, 3]
    assert [RetryPolicy.list([1, 5]).delay_s(n, HALF) for n in (1, 2, 3)] == [1, 5, 5]
    assert RetryPolicy.fixed(4, jitter=Jitter.EQUAL).delay_s(1, HALF) == 3


@given(
    attempt=st.integers(-5, 10**9),
    random01=st.floats(0, 1, exclude_max=True),
    base_s=st.floats(0, limits.DELAY_S_MAX),
    cap_s=st.floats(0, limits.DELAY_S_MAX),
    factor=st.floats(1, 100),
    jitter=st.sampled_from(Jitter),
)
def test_no_attempt_is_too_large(
    attempt: int, random01: float, base_s: float, cap_s: float, factor: float, jitter: Jitter
) -> None:
    policy = RetryPolicy.exponential(base_s=base_s, cap_s=cap_s, factor=factor, jitter=jitter)
    delay_s = policy.delay_s(attempt, random01)
    assert math.isfinite(delay_s)
    assert 0 <= delay_s <= cap_s


def test_the_millionth_attempt_waits_for_the_cap() -> None:
    assert RetryPolicy.exponential(base_s=0.1, cap_s=1, jitter=Jitter.NONE).delay_s(10**6, HALF) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"base_s": -1},
        {"base_s": math.nan},
        {"cap_s": math.inf},
        {"factor": 0.5},
        {"factor": math.nan},
        {"cap_s": 1e300},
        {"base_s": True},
        {"no_retry_on": ["ValueError"]},
        {"no_retry_on": [int]},
    ],
)
def test_a_policy_that_cannot_be_computed_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(DefinitionError):
        RetryPolicy.exponential(**options)  # type: ignore[arg-type]


def test_lists_of_delays_are_checked() -> None:
    for delays_s in ([], [1, -1], [math.nan]):
        with pytest.raises(DefinitionError):
            RetryPolicy.list(delays_s)


def test_errors_that_are_not_worth_another_attempt() -> None:
    policy = RetryPolicy.exponential(no_retry_on=(LookupError,))
    assert not policy.retries(KeyError("x"))
    assert policy.retries(ValueError("x"))
    assert DEFAULT_RETRY.retries(KeyError("x"))


@pytest.mark.parametrize(
    "signal", [SnoozeJob(5, "later"), RetryJob(), RetryJob(2.5, "busy"), CancelJob("no"), DeadJob("bad")]
)
def test_signals_survive_the_way_back_from_a_child_process(signal: JobSignal) -> None:
    copy = pickle.loads(pickle.dumps(signal))  # noqa: S301  our own bytes
    assert type(copy) is type(signal)
    assert vars(copy) == vars(signal)
    assert str(copy) == str(signal)


@pytest.mark.parametrize("delay_s", [-1, math.nan, math.inf, 1e300, "5", None, True])
def test_a_delay_that_cannot_be_is_refused(delay_s: float) -> None:
    with pytest.raises(InvalidInput):
        SnoozeJob(delay_s)
