"""The table of a job's life: complete, without dead ends, and true to the checker's law on every walk."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goqueue.model.state import (
    BY_STATE_AND_EVENT,
    FINAL_STATES,
    FINAL_STORED,
    TRANSITIONS,
    Event,
    JobState,
    StoredState,
    public_state,
)
from scripts.state_machine import PATH, document

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SWEEPS = (Event.SWEEP, Event.SWEEP_LAST)
HANDED_BACK = (Event.SNOOZE, Event.RELEASE)


def test_no_event_has_two_ways_out_of_one_state() -> None:
    assert len(BY_STATE_AND_EVENT) == len(TRANSITIONS)


def test_every_event_is_in_the_table() -> None:
    assert {t.event for t in TRANSITIONS} == set(Event)


def test_every_state_but_blocked_can_be_reached() -> None:
    # Blocked is for jobs that wait for others: their enqueue and release come with workflows.
    reached: set[StoredState | None] = {None}
    for _ in StoredState:
        reached |= {t.after for t in TRANSITIONS if t.before in reached}
    assert set(StoredState) - reached == {StoredState.BLOCKED}


def test_from_every_state_there_is_a_way_to_an_end() -> None:
    ending: set[StoredState | None] = set(FINAL_STORED)
    for _ in StoredState:
        ending |= {t.before for t in TRANSITIONS if t.after in ending}
    assert ending >= set(StoredState)


def test_a_final_job_is_left_only_by_a_manual_retry() -> None:
    assert {t.event for t in TRANSITIONS if t.before in FINAL_STORED} == {Event.RETRY_REQUEST}


def test_the_fence_is_raised_by_claims_and_sweeps_only_and_never_lowered() -> None:
    for t in TRANSITIONS:
        assert t.fence == (1 if t.event in (Event.CLAIM, *SWEEPS) else 0), t


def test_a_running_job_is_left_only_by_its_worker_or_by_a_sweep() -> None:
    for t in TRANSITIONS:
        if t.before is StoredState.RUNNING and t.event is not Event.CANCEL_REQUEST:
            assert t.event in SWEEPS or "by the worker, fenced" in t.note, t


@given(st.data())
def test_the_law_holds_on_every_walk(data: st.DataObject) -> None:
    state: StoredState | None = None
    fence = attempt = crashes = 0
    events: Counter[Event] = Counter()
    for _ in range(data.draw(st.integers(1, 60))):
        step = data.draw(st.sampled_from([t for t in TRANSITIONS if t.before is state]))
        fence, attempt, crashes = fence + step.fence, attempt + step.attempt, crashes + step.crashes
        events[step.event] += 1
        state = step.after
        sweeps = sum(events[event] for event in SWEEPS)
        assert fence == events[Event.CLAIM] + sweeps
        assert attempt == events[Event.CLAIM] - sum(events[event] for event in HANDED_BACK)
        assert crashes == sweeps
        assert 0 <= attempt <= fence


@pytest.mark.parametrize(
    "stored, due_s, attempt, shown",
    [
        (StoredState.WAITING, -1, 0, JobState.READY),
        (StoredState.WAITING, 0, 3, JobState.READY),
        (StoredState.WAITING, 1, 0, JobState.SCHEDULED),
        (StoredState.WAITING, 1, 1, JobState.RETRYING),
        (StoredState.RUNNING, 1, 1, JobState.RUNNING),
        (StoredState.BLOCKED, -1, 0, JobState.BLOCKED),
        (StoredState.COMPLETED, 1, 1, JobState.COMPLETED),
        (StoredState.CANCELLED, 1, 1, JobState.CANCELLED),
        (StoredState.DEAD, 1, 1, JobState.DEAD),
    ],
)
def test_what_users_see(stored: StoredState, due_s: float, attempt: int, shown: JobState) -> None:
    assert public_state(stored, NOW + timedelta(seconds=due_s), attempt, NOW) is shown
    assert (stored in FINAL_STORED) == (shown in FINAL_STATES)


def test_the_document_is_made_from_the_table() -> None:
    root = Path(__file__).resolve().parents[2]
    assert (root / PATH).read_text("utf-8") == document()[PATH]
