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
ORPHANED = (Event.SWEEP, Event.SWEEP_LAST)
SWEEPS = (*ORPHANED, Event.EXPIRE)
CRASHES = (*ORPHANED, Event.CRASH, Event.CRASH_LAST)
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
            by_worker = "by the worker, fenced" in t.note or t.event in (Event.CRASH, Event.CRASH_LAST)
            assert t.event in ORPHANED or by_worker, t


def test_only_what_waits_expires() -> None:
    # A running job past its deadline is its worker's to stop: a sweep would take it from a handler that still runs.
    expiring = {t.before for t in TRANSITIONS if t.event is Event.EXPIRE}
    assert expiring == {StoredState.WAITING, StoredState.BLOCKED}


def test_a_crash_that_is_told_and_one_that_is_swept_differ_only_in_the_fence() -> None:
    for told, swept in ((Event.CRASH, Event.SWEEP), (Event.CRASH_LAST, Event.SWEEP_LAST)):
        a, b = BY_STATE_AND_EVENT[StoredState.RUNNING, told], BY_STATE_AND_EVENT[StoredState.RUNNING, swept]
        assert (a.after, a.attempt, a.crashes) == (b.after, b.attempt, b.crashes)
        # The worker that tells may ask again, and has to meet its own fence then: `already`.
        assert (a.fence, b.fence) == (0, 1)


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
        assert crashes == sum(events[event] for event in CRASHES)
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
