"""What the machines draw from: jobs, keys, outcomes, changes. Few and ready values, so that things meet."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import msgspec
from hypothesis import strategies as st

from goqueue.model.job import ErrorInfo, NewJob, OnConflict, Unique
from goqueue.model.outcome import Cancel, Complete, Crash, Dead, Outcome, Release, Retry, Snooze
from goqueue.model.query import CancelJobs, Change, DeleteJobs, RetryJobs
from goqueue.model.retry import Jitter, RetryDelays
from goqueue.model.state import JobState
from goqueue.settings import Retention, StoreSettings

QUEUES = ("a", "b")
SETTINGS = StoreSettings(
    crash_delay_s=1000.0,
    queue_retention={"b": Retention(completed_s=0.0, cancelled_s=0.0)},
    pool_max=2,
    self_test_s=0.2,
)
"""Of both stores: one queue keeps its history, and one only its dead."""
FINAL = (JobState.COMPLETED, JobState.CANCELLED, JobState.DEAD)
delays = st.sampled_from([0.0, 0.0, 0.0, 1000.0, 3000.0])
indexes = st.integers(0, 10_000)
recent = st.integers(0, 5)

BOOM = ErrorInfo("ValueError", "boom", "é")
OUTCOMES: tuple[Outcome, ...] = (
    Complete(),
    Complete(b'{"n":1}'),
    Retry(0.0, BOOM),
    Retry(1000.0, BOOM),
    Retry(0.0, ErrorInfo("KeyError", "'x'")),
    Snooze(0.0),
    Snooze(1000.0, "not yet"),
    Release(),
    Crash(BOOM),
    Crash(ErrorInfo("WorkerCrashed", "killed by signal 11")),
    Cancel(),
    Cancel("not wanted"),
    Dead(BOOM),
    Dead(BOOM, "not_retryable"),
)
outcomes = st.sampled_from(OUTCOMES)


def _keys() -> list[Unique]:
    """Few keys, so that jobs meet; and every way to hold one."""
    holds: list[tuple[tuple[JobState, ...], float | None]] = [
        ((), None),
        (FINAL, None),
        (FINAL, 1000.0),
        (FINAL[:1], 3000.0),
        (FINAL[1:], None),
    ]
    kept: list[dict[str, Any]] = [  # Any: fields of Unique
        *({"final_states": states, "window_s": window_s} for states, window_s in holds),
        {"until_started": True},
        {"until_started": True},
    ]
    keys = [
        Unique(key=key, on_conflict=on_conflict, digest=hashlib.sha256(key.encode()).digest(), **hold)
        for key in ("k", "l")
        for on_conflict in OnConflict
        for hold in kept
    ]
    return keys + [msgspec.structs.replace(k, keep_run_at=True) for k in keys if k.on_conflict is OnConflict.REPLACE]


# The machine gives id and tenant. Sampling from ready values leaves Hypothesis more steps for its entropy.
TIMES: list[dict[str, Any]] = [  # Any: fields of NewJob
    *[{}] * 6,
    {"delay_s": 1000.0},
    {"delay_s": 3000.0},
    {"run_at": datetime(2001, 1, 1, tzinfo=UTC)},
    {"run_at": datetime(2190, 1, 1, tzinfo=UTC)},
]
SHAPES: list[dict[str, Any]] = [  # Any: fields of NewJob
    *[{}] * 3,
    {"max_attempts": 1, "tags": ("t",), "priority": 9},
    {"max_attempts": 2, "tags": ("t", "u"), "kind": "y"},
    {"max_crashes": 1, "timeout_s": 30.0, "priority": 0},
    {"max_crashes": 2, "meta": {"k": "v"}, "kind": "y", "priority": 0},
    {"schedule_to_start_s": 1000.0, "max_crashes": 9},
    {"schedule_to_start_s": 2000.0, "deadline_s": 4000.0, "tags": ("t",)},
    {"deadline_s": 3000.0, "retry": RetryDelays(base_s=0.5, cap_s=1e4, jitter=Jitter.NONE, retry_for_s=1000.0)},
    {"retry": RetryDelays(delays_s=(1.0, 60.0)), "kind": "y"},
]
jobs = st.builds(
    lambda n, queue, time, shape, unique: NewJob[object](
        **({"kind": "x", "args": b'{"n":%d}' % n, "queue": queue, "unique": unique} | time | shape)
    ),
    st.integers(0, 9),
    st.sampled_from(QUEUES),
    st.sampled_from(TIMES),
    st.sampled_from(SHAPES),
    st.sampled_from([*[None] * 30, *_keys()]),
)
RETRIES: list[Change] = [
    RetryJobs(),
    RetryJobs(),
    RetryJobs(args=b'{"edited":1}'),
    RetryJobs(delay_s=1000.0),
    RetryJobs(every_s=1000.0),
    RetryJobs(args=b'{"edited":2}', delay_s=3000.0, every_s=2000.0),
]
retries = st.sampled_from(RETRIES)
changes = st.sampled_from([*[CancelJobs(), CancelJobs("why"), DeleteJobs()] * 2, *RETRIES])
batches = st.lists(st.tuples(jobs, st.sampled_from([False] * 7 + [True])), min_size=1, max_size=5)
