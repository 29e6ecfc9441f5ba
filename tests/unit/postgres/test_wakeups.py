"""Wake-ups: the first at once, then one for each topic and window."""

from __future__ import annotations

import pytest

from goqueue.store.postgres.wakeups import Wakeups


def test_the_first_is_sent_at_once() -> None:
    assert Wakeups(0.05).leading(["t/a", "t/b"], 100.0) == (("t/a", "t/b"), ())


def test_those_early_in_the_window_wait_for_its_end_together() -> None:
    wakeups = Wakeups(0.05)
    wakeups.leading(["t/a"], 100.0)
    assert wakeups.leading(["t/a"], 100.01) == ((), ("t/a",))
    assert wakeups.note(["t/a"], 100.015) == pytest.approx(0.035)
    assert wakeups.leading(["t/a"], 100.02) == ((), ("t/a",))
    assert wakeups.note(["t/a"], 100.02) is None  # somebody was told to ask already
    assert wakeups.trailing(100.05) == (("t/a",), None)
    assert wakeups.trailing(100.06) == ((), None)


def test_an_enqueue_late_in_the_window_carries_it_for_those_that_wait() -> None:
    wakeups = Wakeups(0.05)
    wakeups.leading(["t/a"], 100.0)
    assert wakeups.note(["t/a"], 100.01) == pytest.approx(0.04)
    assert wakeups.leading(["t/a"], 100.03) == (("t/a",), ())
    wakeups.carried(["t/a"], 100.03)
    assert wakeups.note(["t/a"], 100.04) is None  # who was told to ask at 100.05 is told to ask again
    due, again_s = wakeups.trailing(100.05)
    assert due == ()
    assert again_s == pytest.approx(0.03)
    assert wakeups.trailing(100.08) == (("t/a",), None)


def test_one_that_fails_to_carry_it_or_takes_long_leaves_it_to_the_end_of_the_window() -> None:
    wakeups = Wakeups(0.05)
    wakeups.leading(["t/a"], 100.0)
    wakeups.note(["t/a"], 100.01)
    wakeups.leading(["t/a"], 100.03)
    assert wakeups.trailing(100.05) == (("t/a",), None)


def test_what_is_noted_while_another_is_under_way_waits_on() -> None:
    """It may have been committed after the other's notification."""
    wakeups = Wakeups(0.05)
    wakeups.leading(["t/a"], 100.0)
    wakeups.note(["t/a"], 100.01)
    wakeups.leading(["t/a"], 100.03)
    wakeups.trailing(100.05)
    wakeups.note(["t/a"], 100.06)
    wakeups.carried(["t/a"], 100.03)
    assert wakeups.trailing(100.10) == (("t/a",), None)


def test_the_trailing_edge_begins_a_window_of_its_own() -> None:
    wakeups = Wakeups(0.05)
    wakeups.leading(["t/a"], 100.0)
    wakeups.note(["t/a"], 100.01)
    wakeups.trailing(100.05)
    assert wakeups.leading(["t/a"], 100.07)[0] == ()
    wakeups.note(["t/a"], 100.07)
    assert wakeups.trailing(100.10) == (("t/a",), None)
    assert wakeups.leading(["t/a"], 100.16) == (("t/a",), ())


def test_what_is_noted_before_its_commit_would_be_lost() -> None:
    """A flush between an enqueue's start and its commit must not take its wake-up along."""
    wakeups = Wakeups(0.05)
    wakeups.leading(["t/a"], 100.0)
    _, later = wakeups.leading(["t/a"], 100.02)
    assert wakeups.trailing(100.05)[0] == ()
    assert wakeups.note(later, 100.06) == 0.0
    assert wakeups.trailing(100.06) == (("t/a",), None)


def test_topics_do_not_hold_each_other_back() -> None:
    wakeups = Wakeups(0.05)
    wakeups.leading(["t/a"], 100.0)
    assert wakeups.leading(["t/a", "t/b"], 100.01)[0] == ("t/b",)


def test_what_it_remembers_is_bounded() -> None:
    wakeups = Wakeups(0.05)
    for n in range(25_000):
        wakeups.leading([f"t/{n}"], 100.0)
    assert len(wakeups._sent) <= 10_001
