"""Every number that decides how GoQueue behaves: its meaning, unit, default and bound, in one place.

Durations are seconds as float (``…_s``), sizes are bytes (``…_bytes``). Values out of bounds are refused, not clamped.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from goqueue.model import limits


def _number(low: float, high: float, meaning: str) -> msgspec.Meta:
    return msgspec.Meta(ge=low, le=high, description=meaning)


Seconds = Annotated[float, msgspec.Meta(ge=0.0)]


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How one worker process runs jobs."""

    lease_s: Annotated[
        float, _number(0.5, 3600, "a worker that has not been heard of for this long loses its leases")
    ] = 30.0
    beat_s: Annotated[
        float, _number(0.1, 600, "between two signs of life, jittered; a third of lease_s if that is less")
    ] = 10.0
    lease_margin_s: Annotated[float, _number(0.0, 60, "before its lease ends a worker treats it as lost")] = 2.0
    poll_s: Annotated[float, _number(0.01, 60, "between two looks when no wake-up comes; jittered")] = 1.0
    cancel_grace_s: Annotated[
        float, _number(0.01, 3600, "for a handler that was told to stop; then it is killed or its slot replaced")
    ] = 5.0
    grace_s: Annotated[float, _number(0, 3600, "for running jobs to finish at a stop; then they are handed back")] = (
        25.0
    )
    concurrency: Annotated[int, _number(1, 10_000, "jobs that run at the same time in one process")] = 50
    prefetch: Annotated[
        int, _number(0, limits.CLAIM_MAX, "jobs claimed and not started; 0 means as many as concurrency")
    ] = 0
    settle_batch: Annotated[int, _number(1, limits.SETTLE_MAX, "outcomes written in one statement")] = 500
    outcomes_waiting_max: Annotated[int, _number(1, 100_000, "unwritten outcomes; from here on nothing is claimed")] = (
        5_000
    )
    unknown_kind_s: Annotated[float, _number(0.1, 3600, "first snooze of a job of a kind that this worker lacks")] = 1.0
    unknown_kind_max_s: Annotated[float, _number(0.1, 86_400, "longest such snooze")] = 60.0
    threads: Annotated[int, _number(1, 1_000, "threads for plain functions; at most concurrency are used")] = 50
    child_processes: Annotated[int, _number(1, 256, "processes for run_in='process' handlers")] = 2
    suspects: Annotated[
        int, _number(1, 256, "jobs that have crashed before and run at the same time, each in a fresh process")
    ] = 2
    processes: Annotated[int, _number(1, 256, "worker processes under one supervisor")] = 1
    hung_max: Annotated[
        int, _number(0, 10_000, "handlers that ignore their stop before the process is replaced; 0: concurrency")
    ] = 0
    recycle_jobs: Annotated[int, _number(0, 1_000_000_000, "jobs after which a process is replaced; 0: never")] = 0
    recycle_memory_bytes: Annotated[
        int, _number(0, 1 << 50, "resident memory from which a process is replaced; 0: never")
    ] = 0
    recycle_grace_s: Annotated[
        float,
        _number(0, 7 * 86_400, "for running jobs to finish in a process that was replaced, before grace_s begins"),
    ] = 3_600.0
    stuck_s: Annotated[
        float,
        _number(1, 86_400, "a process that does not answer, beyond the timeouts of its handlers, is killed after this"),
    ] = 60.0

    @property
    def prefetch_jobs(self) -> int:
        """How many jobs may be claimed and not started."""
        return self.prefetch or min(self.concurrency, limits.CLAIM_MAX)


class DutySettings(msgspec.Struct, frozen=True, kw_only=True):
    """How often the elected leader does its upkeep."""

    sweep_s: Annotated[float, _number(0.1, 600, "between two sweeps for orphans of expired workers")] = 5.0
    full_sweep_s: Annotated[float, _number(1, 86_400, "between two sweeps for orphans whose worker row is missing")] = (
        300.0
    )
    history_s: Annotated[float, _number(1, 86_400, "between two rounds of history upkeep")] = 600.0
    leader_ttl_s: Annotated[float, _number(1, 600, "leadership lapses after this long without renewal")] = 15.0
    sweep_batch: Annotated[int, _number(1, 10_000, "rows in one piece of a sweep")] = 500


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """How long final jobs of one queue stay in history; what is not named is as for all queues. 0 keeps none."""

    completed_s: Annotated[float, _number(0, 3.2e8, "completed jobs")] | msgspec.UnsetType = msgspec.UNSET
    cancelled_s: Annotated[float, _number(0, 3.2e8, "cancelled jobs")] | msgspec.UnsetType = msgspec.UNSET
    dead_s: Annotated[float, _number(0, 3.2e8, "dead jobs; null: for ever")] | msgspec.UnsetType | None = msgspec.UNSET


class StoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a process uses its PostgreSQL."""

    pool_max: Annotated[int, _number(1, 500, "connections of one process for requests")] = 8
    connect_timeout_s: Annotated[float, _number(0.1, 300, "to open a connection")] = 5.0
    statement_timeout_s: Annotated[float, _number(0.1, 3600, "client-side deadline of any statement")] = 15.0
    lock_timeout_s: Annotated[float, _number(0.05, 60, "for locks of schema changes and partition upkeep")] = 1.0
    completed_retention_s: Annotated[float, _number(0, 3.2e8, "completed jobs stay in history this long")] = (
        7 * 86_400.0
    )
    cancelled_retention_s: Annotated[float, _number(0, 3.2e8, "cancelled jobs stay in history this long")] = (
        7 * 86_400.0
    )
    dead_retention_s: Annotated[
        float | None, msgspec.Meta(description="dead jobs stay this long; None is for ever")
    ] = None
    queue_retention: Annotated[
        dict[str, Retention], msgspec.Meta(description="other retentions, by queue; at most 1,000")
    ] = {}
    crash_delay_s: Annotated[
        float, _number(0, 3600, "before a job whose process died runs again, alone; doubles with each crash")
    ] = 1.0
    notify_window_s: Annotated[
        float, _number(0, 10, "wake-ups per queue and process: first at once, then one per window")
    ] = 0.005
    self_test_s: Annotated[
        float, _number(0.05, 30, "start-up wait for our own notification, to find a transaction pooler")
    ] = 1.0
    lanes_max: Annotated[int, _number(1, 10_000, "lanes that one claim asks for")] = 128
    scan_max_s: Annotated[float, _number(0.1, 60, "a full scan for live lanes runs at least this often")] = 5.0


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The HTTP server."""

    host: Annotated[str, msgspec.Meta(description="address to bind; beyond loopback only with an API key")] = (
        "127.0.0.1"
    )
    port: Annotated[int, _number(0, 65_535, "port to bind; 0 picks a free one")] = 8080
    body_bytes_max: Annotated[int, _number(1024, 1 << 30, "largest request body")] = 8 * 1024 * 1024
    batch_max: Annotated[int, _number(1, limits.BATCH_MAX, "jobs in one batch")] = limits.BATCH_MAX
    request_timeout_s: Annotated[float, _number(0.1, 600, "deadline of one request")] = 20.0
    key_wait_s: Annotated[float, _number(0.05, 60, "for a unique key in an open transaction, before 503 key_busy")] = (
        5.0
    )
    gather_max: Annotated[int, _number(1, limits.BATCH_MAX, "concurrent submissions gathered into one statement")] = 256
    submissions_waiting_max: Annotated[
        int, _number(1, 1_000_000, "submissions that wait for the store; beyond that 503")
    ] = 5_000
    idempotency_ttl_s: Annotated[float, _number(60, 2.7e6, "an Idempotency-Key is remembered this long")] = 86_400.0
    ready_s: Annotated[float, _number(0.1, 60, "/readyz asks the store when its last answer is older than this")] = 2.0
    header_bytes_max: Annotated[int, _number(1024, 1 << 20, "request line and headers of one request")] = 64 * 1024
    header_timeout_s: Annotated[
        float, _number(0.1, 600, "for a connection to send the headers of its next request")
    ] = 60.0
    grace_s: Annotated[float, _number(0, 600, "for requests that are under way to finish at a stop")] = 10.0


class ClientSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a client sends again and waits."""

    enqueue_tries: Annotated[int, _number(1, 20, "of one enqueue whose answer was lost, the first included")] = 5
    gather_max: Annotated[
        int, _number(1, limits.BATCH_MAX, "concurrent enqueues of an async client gathered into one statement")
    ] = 256
    enqueues_waiting_max: Annotated[
        int, _number(1, 1_000_000, "enqueues of an async client that wait for the store before more are refused")
    ] = 10_000
    change_tries: Annotated[int, _number(1, 20, "of a change of a job whose row is locked, the first included")] = 5
    retry_base_s: Annotated[
        float, _number(0, 60, "pause before the second try; doubles, a random part of it is waited")
    ] = 0.1
    retry_cap_s: Annotated[float, _number(0, 600, "longest such pause")] = 2.0
    wait_min_s: Annotated[float, _number(0.001, 10, "result(): before the first look; doubles from look to look")] = (
        0.01
    )
    wait_max_s: Annotated[float, _number(0.001, 60, "result(): longest time between two looks")] = 0.5
    exists_polls: Annotated[int, _number(1, 1_000, "result(): looks before asking whether the job exists at all")] = 8
    wait_unavailable_s: Annotated[
        float, _number(0, 3600, "result(): a store may be away this long before it raises")
    ] = 60.0
