# Generated from tests/unit/client/_async/test_result.py by scripts/unasync.py: change that and run `make generate`.
"""Waiting for results: one waiter asks for all, and every end of a job is told."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from goqueue.client._sync.primitives import Signal
from goqueue.model.errors import (
    InvalidInput,
    JobCancelled,
    JobFailed,
    ResultError,
    ResultGone,
    ResultTimeout,
    StoreUnavailable,
    WouldDeadlock,
)
from goqueue.model.job import ErrorInfo, NewJob
from goqueue.model.outcome import Cancel, Complete, Dead, Retry
from goqueue.settings import ClientSettings
from goqueue.tasks.app import GoQueue
from goqueue.tasks.context import in_handler
from tests.unit.client._sync.faulty import World
from tests.unit.client._sync.support import together
from tests.unit.client.hand import Hand

JOB: NewJob[object] = NewJob(kind="x")
app = GoQueue()


@dataclass
class Point:
    """A result."""

    x: int


@app.task
def locate() -> Point:
    """Say where."""
    return Point(1)


def test_a_result_is_decoded_to_the_type_of_the_task() -> None:
    world = World()
    job = world.client.enqueue(locate.job())
    Hand(world.memory).do(Complete(locate.encode_result(Point(3))))
    assert job.result(timeout_s=10) == Point(3)


@pytest.mark.parametrize("value", [None, 0, [1, {"a": None}], "text", 2**60])
def test_a_job_without_a_task_has_plain_json(value: object) -> None:
    world = World()
    job = world.client.enqueue(JOB)
    Hand(world.memory).do(Complete(json.dumps(value).encode()))
    assert job.result(timeout_s=10) == value


def test_no_result_is_none() -> None:
    world = World()
    job = world.client.enqueue(JOB)
    Hand(world.memory).do(Complete())
    assert job.result(timeout_s=10) is None


def test_a_result_of_another_type_is_an_error_that_says_so() -> None:
    world = World()
    job = world.client.enqueue(locate.job())
    Hand(world.memory).do(Complete(b'"here"'))
    with pytest.raises(ResultError, match="does not fit"):
        job.result(timeout_s=10)


def test_a_dead_job_raises_with_the_errors_of_its_attempts() -> None:
    world = World()
    job = world.client.enqueue(JOB)
    hand = Hand(world.memory)
    hand.do(Retry(0.0, ErrorInfo("ValueError", "first")))
    hand.do(Dead(ErrorInfo("KeyError", "last")))
    with pytest.raises(JobFailed, match="KeyError: last") as failed:
        job.result(timeout_s=10)
    assert [(error.attempt, error.message) for error in failed.value.errors] == [(1, "first"), (2, "last")]


def test_a_cancelled_job_raises_with_its_reason() -> None:
    world = World()
    job = world.client.enqueue(JOB)
    Hand(world.memory).do(Cancel("no longer needed"))
    with pytest.raises(JobCancelled, match="no longer needed"):
        job.result(timeout_s=10)


def test_a_job_that_takes_longer_is_a_timeout_and_goes_on() -> None:
    world = World()
    job = world.client.enqueue(JOB)
    for timeout_s in (0.0, 0.02):
        with pytest.raises(ResultTimeout, match="goes on"):
            job.result(timeout_s=timeout_s)
    Hand(world.memory).do(Complete(b"1"))
    assert job.result(timeout_s=10) == 1


@pytest.mark.parametrize("timeout_s", [-1, float("nan"), float("inf")])
def test_a_limit_that_cannot_be_is_refused(timeout_s: float) -> None:
    world = World()
    job = world.client.enqueue(JOB)
    with pytest.raises(InvalidInput):
        job.result(timeout_s=timeout_s)


def test_a_deleted_job_is_gone_for_who_waits() -> None:
    world = World()
    job = world.client.enqueue(JOB)
    job.delete()
    with pytest.raises(ResultGone, match="deleted"):
        job.result(timeout_s=10)


def test_a_handler_that_would_wait_is_refused_unless_it_insists() -> None:
    world = World()
    job = world.client.enqueue(JOB)
    Hand(world.memory).do(Complete(b"1"))
    token = in_handler.set(True)
    try:
        with pytest.raises(WouldDeadlock):
            job.result(timeout_s=10)
        assert job.result(timeout_s=10, allow_in_handler=True) == 1
    finally:
        in_handler.reset(token)


def test_one_waiter_asks_for_all_jobs_in_one_statement() -> None:
    world = World()
    jobs = world.client.enqueue_many([JOB] * 20)
    hand = Hand(world.memory)

    def on_poll(number: int) -> None:
        # Not before all wait: then a poll for each would be 20 at least.
        if len(world.store.polls[-1]) == len(jobs):
            for n in range(len(jobs)):
                hand.do(Complete(str(n).encode()))
            world.store.on_poll = lambda _: None

    world.store.on_poll = on_poll
    assert together(*[lambda job=job: job.result(timeout_s=20) for job in jobs]) == list(range(20))
    assert max(len(refs) for refs in world.store.polls) == len(jobs)


def test_two_who_wait_for_one_job_both_get_it() -> None:
    world = World()
    job = world.client.enqueue(JOB)
    hand = Hand(world.memory)
    world.store.on_poll = lambda number: hand.do(Complete(b"5")) if number == 3 else None
    assert together(job.result, job.result, lambda: job.result(timeout_s=20)) == [5, 5, 5]


def test_when_the_one_who_asks_gives_up_another_takes_over() -> None:
    world = World()
    first, second = world.client.enqueue_many([JOB, JOB])
    hand = Hand(world.memory)
    hand.settle(hand.take(), Retry(0.0, ErrorInfo("E", "not yet")))
    # Who asks for `first` leads and times out; `second` ends only after that.
    given_up: list[bool] = []

    def impatient() -> object:
        try:
            return first.result(timeout_s=0.05)
        except ResultTimeout:
            given_up.append(True)
            raise

    def on_poll(number: int) -> None:
        if given_up and number:
            world.store.on_poll = lambda _: None
            for _ in range(2):
                hand.do(Complete(b"7"))

    world.store.on_poll = on_poll
    answers = together(impatient, lambda: second.result(timeout_s=20))
    assert isinstance(answers[0], ResultTimeout)
    assert answers[1] == 7


def test_who_comes_later_does_not_wait_for_a_leader_that_sleeps_long() -> None:
    world = World(settings=ClientSettings(wait_min_s=0.001, wait_max_s=60, exists_polls=1_000))
    first, second = world.client.enqueue_many([JOB, JOB])
    hand = Hand(world.memory)
    tired = Signal()

    def on_poll(number: int) -> None:
        if number == 9:  # the next look for `first` is in 512 ms
            tired.set()
        if number == 10:
            hand.do(Complete(b"1"))
            hand.do(Complete(b"2"))

    def late() -> object:
        tired.wait(20)
        return second.result(timeout_s=20)

    world.store.on_poll = on_poll
    assert together(lambda: first.result(timeout_s=20), late) == [1, 2]
    assert world.store.polls[9] == (second.ref,)


def test_a_store_that_is_away_for_a_while_is_borne_with() -> None:
    world = World()
    job = world.client.enqueue(JOB)
    Hand(world.memory).do(Complete(b"1"))
    world.store.polls_to_refuse = 5
    assert job.result(timeout_s=20) == 1
    assert len(world.store.polls) == 6


def test_a_store_that_stays_away_is_told_to_all_who_wait() -> None:
    world = World(settings=ClientSettings(wait_min_s=0.001, wait_max_s=0.002, wait_unavailable_s=0.0))
    jobs = world.client.enqueue_many([JOB, JOB])
    world.store.polls_to_refuse = 10**6
    answers = together(*[job.result for job in jobs])
    assert [type(answer) for answer in answers] == [StoreUnavailable, StoreUnavailable]


def test_delays_grow_while_nothing_happens() -> None:
    world = World(settings=ClientSettings(wait_min_s=0.01, wait_max_s=0.5))
    job = world.client.enqueue(JOB)
    with pytest.raises(ResultTimeout):
        job.result(timeout_s=0.2)
    # 10 + 20 + 40 + 80 ms: the next look would be at 310 ms. A slow machine looks less often, never more.
    assert 1 <= len(world.store.polls) <= 4
