"""Numbers at the end of their range: bounded, never an overflow."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from goqueue.model import limits
from goqueue.model.admin import Duty
from goqueue.model.outcome import Answer, Complete, Crash, Retry, Snooze
from goqueue.model.query import ChangeStatus, RetryJobs, Selection
from goqueue.model.retry import RetryDelays
from goqueue.model.state import JobState
from goqueue.store.conformance.harness import BOOM, near, near_s

if TYPE_CHECKING:
    from goqueue.store.conformance.harness import Harness


class ExtremeCases:
    """Very large, very small, and no numbers."""

    async def test_no_delay_of_an_outcome_is_beyond_its_bounds(self, harness: Harness) -> None:
        bounded = {
            1e300: limits.DELAY_S_MAX,
            math.inf: limits.DELAY_S_MAX,
            -1e300: 0.0,
            -math.inf: 0.0,
            math.nan: 0.0,
        }
        for delay_s, expected_s in bounded.items():
            for outcome in (Retry(delay_s, BOOM), Snooze(delay_s)):
                lease = await harness.run(queue=f"{delay_s} {type(outcome).__name__}")
                assert await harness.settle(lease, outcome) is Answer.APPLIED, outcome
                record = await harness.record(lease.ref)
                assert near(record.run_at, record.attempted_at, expected_s), outcome

    async def test_no_spread_of_a_manual_retry_is_beyond_its_bounds(self, harness: Harness) -> None:
        refs = [await harness.finish(JobState.DEAD) for _ in range(2)]
        for delay_s, every_s, first_s, second_s in (
            (1e300, 1e300, limits.DELAY_S_MAX, limits.DELAY_S_MAX),
            (0.0, 1e300, 0.0, limits.DELAY_S_MAX),
            (-1e300, -5.0, 0.0, 0.0),
            (math.nan, 0.0, 0.0, 0.0),
        ):
            ids = tuple(ref.id for ref in refs)
            changed = await harness.store.change(Selection("default", ids), RetryJobs(delay_s=delay_s, every_s=every_s))
            assert [answer.status for answer in changed] == [ChangeStatus.CHANGED] * 2
            for ref, expected_s in zip(refs, (first_s, second_s), strict=True):
                record = await harness.record(ref)
                assert near(record.run_at, record.created_at, expected_s), (delay_s, every_s)
                await harness.change(ref, RetryJobs())
            for lease in await harness.claim():
                await harness.settle(lease, Complete())

    async def test_the_largest_limits_of_time_are_kept(self, harness: Harness) -> None:
        longest_s = limits.DELAY_S_MAX
        ref = await harness.enqueue(
            run_at=limits.INSTANT_MAX,
            schedule_to_start_s=longest_s,
            deadline_s=longest_s,
            retry=RetryDelays(base_s=longest_s, cap_s=longest_s, factor=1000.0, retry_for_s=longest_s),
        )
        record = await harness.record(ref)
        assert (record.schedule_to_start_s, record.run_at) == (longest_s, limits.INSTANT_MAX)
        assert near(record.deadline_at, record.created_at, longest_s)
        assert await harness.sweep_all(Duty.EXPIRED) == 0
        await harness.change(ref, RetryJobs())
        (lease,) = await harness.claim()
        assert near_s(lease.start_in_s, longest_s)
        assert near_s(lease.deadline_in_s, longest_s)

    async def test_the_crash_delay_is_bounded_however_often_a_job_crashes(self, harness: Harness) -> None:
        crashes = 66  # beyond what fits into 64 bits, were each to double the delay
        worker = await harness.worker()
        ref = await harness.enqueue(max_crashes=limits.MAX_CRASHES_MAX, max_attempts=limits.MAX_ATTEMPTS_MAX)
        for _ in range(crashes):
            (lease,) = await harness.claim(worker)
            assert await harness.settle(lease, Crash(BOOM)) is Answer.APPLIED
            record = await harness.record(ref)
            assert await harness.change(ref, RetryJobs()) is ChangeStatus.CHANGED
        assert record.crashes == crashes
        assert near(record.run_at, record.attempted_at, limits.DELAY_S_MAX)

    async def test_the_largest_bounds_of_a_job_are_kept(self, harness: Harness) -> None:
        ref = await harness.enqueue(
            max_attempts=limits.MAX_ATTEMPTS_MAX,
            max_crashes=limits.MAX_CRASHES_MAX,
            timeout_s=limits.TIMEOUT_S_MAX,
            priority=limits.PRIORITY_MAX,
        )
        (lease,) = await harness.claim()
        assert (lease.ref, lease.max_attempts, lease.priority) == (ref, limits.MAX_ATTEMPTS_MAX, limits.PRIORITY_MAX)
        assert lease.timeout_s == limits.TIMEOUT_S_MAX
