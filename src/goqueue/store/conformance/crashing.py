"""Crash: the process of an attempt has died, and its supervisor says so. The store decides, as it does in a sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from goqueue.model.admin import Duty
from goqueue.model.job import ErrorInfo
from goqueue.model.outcome import Answer, Complete, Crash, Release
from goqueue.model.query import CancelJobs, RetryJobs
from goqueue.model.state import JobState
from goqueue.store.conformance.harness import BOOM, CRASH_DELAY_S, near

if TYPE_CHECKING:
    from goqueue.store.conformance.harness import Harness

KILLED = ErrorInfo("WorkerCrashed", "killed by signal 11")


class CrashCases:
    """Attempts whose process died."""

    async def test_a_crash_is_counted_and_waits_for_its_delay(self, harness: Harness) -> None:
        lease = await harness.run()
        assert await harness.settle(lease, Crash(KILLED)) is Answer.APPLIED
        record = await harness.record(lease.ref)
        assert (record.state, record.attempt, record.crashes) == (JobState.RETRYING, 1, 1)
        assert (record.worker_id, record.finished_at, record.reason) == (None, None, None)
        assert near(record.run_at, record.attempted_at, CRASH_DELAY_S)
        assert [(e.attempt, e.type, e.message) for e in record.errors] == [(1, KILLED.type, KILLED.message)]

    async def test_a_job_that_crashed_is_claimed_as_a_suspect_under_the_next_fence(self, harness: Harness) -> None:
        lease = await harness.run()
        await harness.settle(lease, Crash(KILLED))
        await harness.advance(CRASH_DELAY_S + 10)
        (again,) = await harness.claim()
        assert (again.crashes, again.attempt, again.fence) == (1, 2, lease.fence + 1)

    async def test_the_delay_doubles_with_each_crash_reported_or_swept(self, harness: Harness) -> None:
        ref = await harness.enqueue(max_crashes=10)
        for crash in range(4):
            worker = await harness.worker()
            (lease,) = await harness.claim(worker)
            if crash % 2:
                await harness.settle(lease, Crash(KILLED))
            else:
                await harness.beat(worker, ttl_s=0)
                await harness.sweep_all(Duty.ORPHANS)
            record = await harness.record(ref)
            assert record.crashes == crash + 1
            assert near(record.run_at, record.attempted_at, CRASH_DELAY_S * 2**crash)
            await harness.advance(CRASH_DELAY_S * 2**crash + 10)

    async def test_a_lease_tells_when_a_crash_would_be_the_last(self, harness: Harness) -> None:
        first = await harness.run(max_crashes=2, deadline_s=1e6)
        assert first.max_crashes is None  # it need not be known
        await harness.settle(first, Crash(KILLED))
        await harness.advance(10 * CRASH_DELAY_S)
        (second,) = await harness.claim()
        assert (second.crashes, second.max_crashes) == (1, 2)
        only = await harness.run(max_crashes=1)
        assert (only.crashes, only.max_crashes) == (0, 1)

    async def test_at_max_crashes_the_job_is_dead(self, harness: Harness) -> None:
        ref = await harness.enqueue(max_crashes=2, max_attempts=100)
        for _ in range(2):
            (lease,) = await harness.claim()
            await harness.settle(lease, Crash(KILLED))
            await harness.advance(10 * CRASH_DELAY_S)
        record = await harness.record(ref)
        assert (record.state, record.reason, record.attempt, record.crashes) == (JobState.DEAD, "crashed", 2, 2)
        assert [error.attempt for error in record.errors] == [1, 2]
        assert await harness.claim() == []

    async def test_a_reported_crash_on_the_last_attempt_is_the_end(self, harness: Harness) -> None:
        lease = await harness.run(max_attempts=1)
        await harness.settle(lease, Crash(KILLED))
        record = await harness.record(lease.ref)
        assert (record.state, record.reason, record.attempt, record.crashes) == (JobState.DEAD, "crashed", 1, 1)
        assert near(record.finished_at, record.attempted_at)

    async def test_a_crash_of_a_job_to_be_cancelled_cancels_it(self, harness: Harness) -> None:
        for max_attempts in (20, 1):
            lease = await harness.run(max_attempts=max_attempts)
            await harness.change(lease.ref, CancelJobs())
            assert await harness.settle(lease, Crash(KILLED)) is Answer.APPLIED
            record = await harness.record(lease.ref)
            assert (record.state, record.reason, record.crashes) == (JobState.CANCELLED, "cancelled", 1)
            assert len(record.errors) == 1

    async def test_what_had_not_started_is_released_beside_a_crash(self, harness: Harness) -> None:
        worker = await harness.worker()
        poison, neighbour = await harness.run(worker), await harness.run(worker)
        await harness.settle(poison, Crash(KILLED))
        await harness.settle(neighbour, Release())
        record = await harness.record(neighbour.ref)
        assert (record.state, record.attempt, record.crashes) == (JobState.READY, 0, 0)
        assert await harness.sweep_all(Duty.ORPHANS) == 0

    async def test_a_crash_told_after_the_sweep_counts_once(self, harness: Harness) -> None:
        lease = await harness.run()
        await harness.lose(lease)
        assert await harness.settle(lease, Crash(KILLED)) is Answer.LOST
        assert (await harness.record(lease.ref)).crashes == 1

    async def test_a_crash_told_twice_counts_once(self, harness: Harness) -> None:
        lease = await harness.run()
        await harness.settle(lease, Crash(KILLED))
        assert await harness.settle(lease, Crash(KILLED)) is Answer.ALREADY
        assert (await harness.record(lease.ref)).crashes == 1

    async def test_a_retry_of_a_job_that_crashed_to_death_survives_one_more(self, harness: Harness) -> None:
        lease = await harness.run(max_crashes=1)
        await harness.settle(lease, Crash(KILLED))
        await harness.change(lease.ref, RetryJobs())
        (again,) = await harness.claim()
        assert again.crashes == 1
        assert await harness.settle(again, Complete()) is Answer.APPLIED
        record = await harness.record(lease.ref)
        assert (record.state, record.crashes, record.max_crashes) == (JobState.COMPLETED, 1, 2)

    async def test_a_crash_under_a_wrong_fence_counts_nothing(self, harness: Harness) -> None:
        old = await harness.run()
        await harness.settle(old, Crash(BOOM))
        await harness.advance(CRASH_DELAY_S + 10)
        (new,) = await harness.claim()
        assert await harness.settle(old, Crash(BOOM)) is Answer.LOST
        assert (await harness.record(new.ref)).crashes == 1
        assert await harness.settle(new, Complete()) is Answer.APPLIED
