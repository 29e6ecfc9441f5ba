"""Wake-ups: the first at once, then one for each topic and window."""

from __future__ import annotations

import pytest

from goqueue.store.postgres.wakeups import Wakeups


def test_the_first_is_sent_at_once() -> None:
    assert Wakeups(0.05).leading(["t/a", "t/b"], 100.0) == (("t/a", "t/b"), ())


def test_those_within_the_window_wait_for_its_end_together() -> None:
    wakeups = Wakeups(0.05)
    wakeups.leading(["t/a"], 100.0)
    assert wakeups.leading(["t/a"], 100.01) == ((), ("t/a",))
    assert wakeups.note(["t/a"], 100.02) == pytest.approx(0.03)
    assert wakeups.leading(["t/a"], 100.03) == ((), ("t/a",))
    assert wakeups.note(["t/a"], 100.03) is None  # somebody was told to ask already
    assert wakeups.trailing(100.05) == ("t/a",)
    assert wakeups.trailing(100.06) == ()


def test_the_trailing_edge_begins_a_window_of_its_own() -> None:
    wakeups = Wakeups(0.05)
    wakeups.leading(["t/a"], 100.0)
    wakeups.note(wakeups.leading(["t/a"], 100.04)[1], 100.04)
    wakeups.trailing(100.05)
    assert wakeups.leading(["t/a"], 100.09)[0] == ()
    wakeups.note(["t/a"], 100.09)
    assert wakeups.trailing(100.10) == ("t/a",)
    assert wakeups.leading(["t/a"], 100.16) == (("t/a",), ())


def test_what_is_noted_before_its_commit_would_be_lost() -> None:
    """A flush between an enqueue's start and its commit must not take its wake-up along."""
    wakeups = Wakeups(0.05)
    wakeups.leading(["t/a"], 100.0)
    _, later = wakeups.leading(["t/a"], 100.04)
    assert wakeups.trailing(100.05) == ()
    assert wakeups.note(later, 100.06) == 0.0
    assert wakeups.trailing(100.06) == ("t/a",)


def test_topics_do_not_hold_each_other_back() -> None:
    wakeups = Wakeups(0.05)
    wakeups.leading(["t/a"], 100.0)
    assert wakeups.leading(["t/a", "t/b"], 100.01)[0] == ("t/b",)


def test_what_it_remembers_is_bounded() -> None:
    wakeups = Wakeups(0.05)
    for n in range(25_000):
        wakeups.leading([f"t/{n}"], 100.0)
    assert len(wakeups._sent) <= 10_001
