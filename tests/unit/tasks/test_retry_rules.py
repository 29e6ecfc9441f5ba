"""What a policy says about exceptions, how long it tries, and what of it a single job can carry."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from goqueue.model import limits
from goqueue.model.errors import DefinitionError, InvalidJob
from goqueue.model.job import NewJob, OnConflict, Unique
from goqueue.model.retry import Jitter, RetryDelays
from goqueue.model.state import JobState
from goqueue.tasks.app import GoQueue
from goqueue.tasks.prepare import prepare
from goqueue.tasks.retry import RetryPolicy

HALF = 0.5


class Busy(ConnectionError):
    """Says when to come back."""

    def __init__(self, retry_after_s: object) -> None:
        super().__init__("busy")
        self.retry_after_s = retry_after_s


BASE = RetryPolicy.fixed(8.0, no_retry_on=(LookupError, BlockingIOError))
POLICY = (
    BASE.on(ConnectionError, RetryPolicy.fixed(1.0))
    .on(OSError, RetryPolicy.list([2.0, 3.0]))
    .on(KeyError, RetryPolicy.fixed(4.0))
)


@pytest.mark.parametrize(
    "error,first,second",
    [
        (ValueError(), 8.0, 8.0),
        (ConnectionError(), 1.0, 1.0),
        (ConnectionResetError(), 1.0, 1.0),
        (FileNotFoundError(), 2.0, 3.0),
        (BlockingIOError(), None, None),
        (IndexError(), None, None),
        (KeyError(), 4.0, 4.0),
    ],
)
def test_the_most_specific_type_decides(error: Exception, first: float | None, second: float | None) -> None:
    assert [POLICY.wait_s(error, n, HALF) for n in (1, 2)] == [first, second]
    assert POLICY.retries(error) is (first is not None)


def test_rules_can_be_given_at_once_or_one_by_one() -> None:
    rules = {ConnectionError: RetryPolicy.fixed(1.0)}
    made = (
        (RetryPolicy.fixed(2.0, on=rules), RetryPolicy.fixed(2.0)),
        (RetryPolicy.list([2.0], on=rules), RetryPolicy.list([2.0])),
        (RetryPolicy.exponential(on=rules), RetryPolicy.exponential()),
    )
    for at_once, plain in made:
        assert at_once == plain.on(ConnectionError, RetryPolicy.fixed(1.0))
        assert plain.rules == ()


@pytest.mark.parametrize(
    "policy",
    [
        lambda: BASE.on(LookupError, RetryPolicy.fixed(1.0)),
        lambda: POLICY.on(OSError, RetryPolicy.fixed(1.0)),
        lambda: RetryPolicy.fixed(1.0).on(OSError, POLICY),
        lambda: RetryPolicy.fixed(1.0).on(OSError, RetryPolicy.fixed(1.0, no_retry_on=(ValueError,))),
        lambda: RetryPolicy.fixed(1.0).on(int, RetryPolicy.fixed(1.0)),  # type: ignore[arg-type] # the point
        lambda: RetryPolicy.fixed(1.0).on(OSError, 1.0),  # type: ignore[arg-type] # the point
        lambda: RetryPolicy.fixed(1.0, retry_for_s=math.nan),
        lambda: RetryPolicy.fixed(1.0, retry_for_s=-1),
        lambda: RetryPolicy.fixed(1.0, retry_after_max_s=math.inf),
        lambda: RetryPolicy.list([1.0] * (limits.RETRY_DELAYS_MAX + 1)),
        lambda: RetryPolicy(jitter="often"),  # type: ignore[arg-type] # the point
        lambda: RetryPolicy(delays_s=5.0),  # type: ignore[arg-type] # the point
    ],
)
def test_what_would_mean_two_things_or_nothing_is_refused(policy: object) -> None:
    with pytest.raises(DefinitionError, match=r"^retry: "):
        policy()  # type: ignore[operator] # a lambda


def test_the_numbers_of_a_job_stand_in_for_the_policys_own_and_rules_stay() -> None:
    numbers = RetryDelays(delays_s=(5.0,), jitter=Jitter.NONE, retry_for_s=60.0)
    assert POLICY.wait_s(ValueError(), 1, HALF, numbers) == 5.0
    assert POLICY.wait_s(ConnectionError(), 1, HALF, numbers) == 1.0
    assert POLICY.wait_s(IndexError(), 1, HALF, numbers) is None
    assert POLICY.tried_for_max_s(ConnectionError(), numbers) == 60.0
    assert POLICY.tried_for_max_s(ConnectionError()) is None


def test_a_rule_can_only_shorten_how_long_a_job_is_tried() -> None:
    policy = RetryPolicy.fixed(1.0, retry_for_s=100.0)
    shorter = policy.on(OSError, RetryPolicy.fixed(1.0, retry_for_s=10.0))
    longer = policy.on(OSError, RetryPolicy.fixed(1.0, retry_for_s=1000.0))
    assert [p.tried_for_max_s(OSError()) for p in (policy, shorter, longer)] == [100.0, 10.0, 100.0]


def test_an_error_is_obeyed_when_it_asks_for_longer_up_to_a_bound_and_not_at_all_if_switched_off() -> None:
    policy = RetryPolicy.fixed(8.0)
    assert policy.wait_s(Busy(3), 1, HALF) == 8.0
    assert policy.wait_s(Busy(30), 1, HALF) == 30.0
    assert policy.wait_s(Busy(1e12), 1, HALF) == 86_400.0
    assert RetryPolicy.fixed(8.0, retry_after_max_s=20).wait_s(Busy(30), 1, HALF) == 20.0
    off = RetryPolicy.fixed(8.0, retry_after_max_s=0)
    assert off.wait_s(Busy(30), 1, HALF) == 8.0
    assert off.on(Busy, RetryPolicy.fixed(9.0)).wait_s(Busy(30), 1, HALF) == 9.0
    assert policy.on(Busy, RetryPolicy.fixed(9.0, retry_after_max_s=0)).wait_s(Busy(30), 1, HALF) == 9.0


def test_an_answer_of_httpx_is_obeyed() -> None:
    request = httpx.Request("GET", "http://example.com")
    answer = httpx.Response(429, headers={"Retry-After": "77"}, request=request)
    with pytest.raises(httpx.HTTPStatusError) as raised:
        answer.raise_for_status()
    assert RetryPolicy.fixed(1.0).wait_s(raised.value, 1, HALF) == 77.0


@given(
    attempt=st.integers(1, 10**7),
    factor=st.sampled_from([1, 2, 100, 1.5]),
    asked=st.one_of(st.none(), st.floats(), st.integers(-(10**30), 10**30), st.text(max_size=5)),
)
def test_whatever_an_error_asks_for_the_wait_is_a_number_within_bounds(
    attempt: int, factor: float, asked: object
) -> None:
    policy = RetryPolicy.exponential(factor=factor, cap_s=limits.DELAY_S_MAX)
    wait_s = policy.wait_s(Busy(asked), attempt, HALF)
    assert wait_s is not None
    assert 0 <= wait_s <= limits.DELAY_S_MAX


# -- what a job carries ---------------------------------------------------------------------------


def test_only_numbers_travel_with_a_job() -> None:
    bare: NewJob[object] = NewJob(kind="k")
    job = prepare(bare.options(retry=RetryPolicy.fixed(5, retry_for_s=60)))
    assert job.retry == RetryDelays(delays_s=(5,), jitter=Jitter.NONE, retry_for_s=60)
    assert type(job.retry) is RetryDelays
    assert msgspec.json.decode(msgspec.json.encode(job.retry), type=RetryDelays) == job.retry
    assert prepare(NewJob(kind="k", retry=RetryDelays(delays_s=[1.0]))).retry == RetryDelays(delays_s=(1.0,))  # type: ignore[arg-type] # a list is as good


@pytest.mark.parametrize(
    "policy",
    [
        RetryPolicy.fixed(5, no_retry_on=(ValueError,)),
        RetryPolicy.fixed(5).on(OSError, RetryPolicy.fixed(1)),
        RetryPolicy.fixed(5, retry_after_max_s=0),
    ],
)
def test_a_policy_with_rules_about_exceptions_belongs_to_a_task(policy: RetryPolicy) -> None:
    with pytest.raises(InvalidJob, match=r"on the task, @app\.task\(retry=") as refused:
        prepare(NewJob(kind="k").options(retry=policy))
    assert refused.value.pointer == "/retry"


@pytest.mark.parametrize(
    "job,pointer",
    [
        (NewJob(kind="k", retry=RetryDelays(base_s=math.nan)), "/retry/base_s"),
        (NewJob(kind="k", retry=RetryDelays(cap_s=-1)), "/retry/cap_s"),
        (NewJob(kind="k", retry=RetryDelays(factor=101)), "/retry/factor"),
        (NewJob(kind="k", retry=RetryDelays(delays_s=(1.0, math.inf))), "/retry/delays_s"),
        (NewJob(kind="k", retry=RetryDelays(delays_s=(1.0,) * 101)), "/retry/delays_s"),
        (NewJob(kind="k", retry=RetryDelays(retry_for_s=1e300)), "/retry/retry_for_s"),
        (NewJob(kind="k", retry=5), "/retry"),  # type: ignore[arg-type] # the point
        (NewJob(kind="k", schedule_to_start_s=0), "/schedule_to_start_s"),
        (NewJob(kind="k", schedule_to_start_s=math.nan), "/schedule_to_start_s"),
        (NewJob(kind="k", deadline_s=-1), "/deadline_s"),
        (NewJob(kind="k", deadline_s=1e300), "/deadline_s"),
        (NewJob(kind="k", deadline_s=True), "/deadline_s"),
        (NewJob(kind="k", deadline_s=60, delay_s=60), "/deadline_s"),
        (
            NewJob(kind="k", unique=Unique(until_started=True, final_states=(JobState.COMPLETED,))),
            "/unique/until_started",
        ),
        (NewJob(kind="k", unique=Unique(keep_run_at=True)), "/unique/keep_run_at"),
        (NewJob(kind="k", unique=Unique(keep_run_at=True, on_conflict=OnConflict.REJECT)), "/unique/keep_run_at"),
    ],
)
def test_what_cannot_be_is_refused_with_the_place(job: NewJob[object], pointer: str) -> None:
    with pytest.raises(InvalidJob) as refused:
        prepare(job)
    assert refused.value.pointer == pointer


def test_what_can_be_passes() -> None:
    prepare(NewJob(kind="k", unique=Unique(until_started=True)))
    prepare(NewJob(kind="k", unique=Unique(keep_run_at=True, on_conflict=OnConflict.REPLACE)))
    prepare(NewJob(kind="k", schedule_to_start_s=1, deadline_s=61, delay_s=60))


def test_a_task_says_it_for_its_jobs_and_a_job_for_itself() -> None:
    app = GoQueue()

    @app.task(schedule_to_start_s=5, deadline_s=60)
    def task() -> None: ...

    job = task.job()
    assert (job.schedule_to_start_s, job.deadline_s, job.retry) == (5, 60, None)
    other = job.options(schedule_to_start_s=None, deadline_s=7, retry=RetryPolicy.fixed(1))
    assert (other.schedule_to_start_s, other.deadline_s, other.retry) == (None, 7, RetryPolicy.fixed(1))
    with pytest.raises(DefinitionError, match="deadline_s"):
        app.task(kind="bad", deadline_s=-1)(lambda: None)


def test_the_page_about_retries_says_what_works() -> None:
    page = (Path(__file__).parents[3] / "docs" / "why" / "retries.md").read_text()
    names: dict[str, Any] = {}
    exec(page.split("```python\n", 1)[1].split("```", 1)[0], names)  # noqa: S102  our own page
    policy: RetryPolicy = names["fetch"].retry
    assert [policy.wait_s(error(), 1, HALF) for error in (ValueError, KeyError, ConnectionError)] == [None, 30, 0.375]
    assert names["app"].retry.cap_s == 600
