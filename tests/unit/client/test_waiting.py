"""When a job that is awaited is asked for."""

from __future__ import annotations

import pytest

from goqueue.client.waiting import PollSchedule
from goqueue.model.job import JobRef
from goqueue.settings import ClientSettings

A, B = JobRef("default", "q", "a"), JobRef("default", "q", "b")
SETTINGS = ClientSettings(wait_min_s=0.01, wait_max_s=0.5, exists_polls=3)


def test_delays_double_from_ten_milliseconds_to_half_a_second() -> None:
    schedule = PollSchedule(SETTINGS)
    now = 100.0
    schedule.add(A, now)
    delays = []
    for _ in range(9):
        wait_s = schedule.next_in(now)
        assert wait_s is not None
        delays.append(wait_s)
        now += wait_s
        assert schedule.take(now, 10) == [A]
    assert delays == pytest.approx([0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.5, 0.5, 0.5])


def test_jobs_due_nearly_together_go_together_and_the_others_wait() -> None:
    schedule = PollSchedule(SETTINGS)
    schedule.add(A, 100.0)
    schedule.add(B, 100.005)
    assert schedule.take(100.01, 10) == [A, B]
    schedule.add(B, 100.5)
    assert schedule.take(100.03, 10) == [A]


def test_one_statement_has_a_bounded_number_of_jobs() -> None:
    schedule = PollSchedule(SETTINGS)
    refs = [JobRef("default", "q", str(n)) for n in range(25)]
    for ref in refs:
        schedule.add(ref, 100.0)
    taken = [schedule.take(100.01, 10) for _ in range(3)]
    assert [len(batch) for batch in taken] == [10, 10, 5]
    assert sorted(taken[0] + taken[1] + taken[2]) == sorted(refs)


def test_who_waits_anew_for_an_old_job_is_served_soon() -> None:
    schedule = PollSchedule(SETTINGS)
    schedule.add(A, 0.0)
    for now in (0.01, 1.0, 2.0, 3.0, 4.0, 5.0):
        schedule.take(now, 10)
    schedule.add(A, 5.0)
    assert schedule.next_in(5.0) == pytest.approx(0.01)
    assert schedule.take(5.01, 10) == [A]


def test_two_who_come_in_one_moment_are_one_question() -> None:
    schedule = PollSchedule(SETTINGS)
    schedule.add(A, 0.0)
    schedule.add(A, 0.0)
    assert schedule.take(0.01, 10) == [A]


def test_a_removed_job_is_not_asked_for_and_leaves_nothing_to_wait_for() -> None:
    schedule = PollSchedule(SETTINGS)
    schedule.add(A, 0.0)
    schedule.remove(A)
    schedule.remove(B)
    assert schedule.next_in(0.0) is None
    assert schedule.take(10.0, 10) == []
    assert len(schedule) == 0


def test_now_and_then_it_is_asked_whether_a_job_exists_at_all() -> None:
    schedule = PollSchedule(SETTINGS)
    schedule.add(A, 0.0)
    doubts = []
    for now in range(1, 7):
        schedule.take(float(now), 10)
        doubts.append(schedule.is_old(A))
    assert doubts == [False, False, True, False, False, True]
    assert not schedule.is_old(B)
