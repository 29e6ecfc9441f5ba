"""Limits of time that a job carries: by when it must be started and ended, for how long it is tried, and its sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from goqueue.model.admin import Duty
from goqueue.model.outcome import Answer, Complete, Dead, Release, Retry, Snooze
from goqueue.model.query import CancelJobs, ChangeStatus, RetryJobs
from goqueue.model.retry import Jitter, RetryDelays
from goqueue.model.state import JobState
from goqueue.store.conformance.harness import BOOM, CRASH_DELAY_S, near, near_s, new_job

if TYPE_CHECKING:
    from goqueue.model.lease import Lease
    from goqueue.store.conformance.harness import Harness

DELAYS = RetryDelays(base_s=0.5, factor=3.0, cap_s=90.0, jitter=Jitter.FULL, delays_s=(1.0, 2.5), retry_for_s=600.0)


async def _again(harness: Harness) -> Lease:
    (lease,) = await harness.claim()
    return lease


class ExpiryCases:
    """Deadlines."""

    async def test_a_job_keeps_its_limits(self, harness: Harness) -> None:
        limited = await harness.enqueue(schedule_to_start_s=30.5, deadline_s=600.0, retry=DELAYS)
        record = await harness.record(limited)
        assert (record.schedule_to_start_s, record.retry) == (30.5, DELAYS)
        assert near(record.deadline_at, record.created_at, 600)
        plain = await harness.record(await harness.enqueue())
        assert (plain.schedule_to_start_s, plain.deadline_at, plain.retry) == (None, None, None)

    async def test_a_job_keeps_its_limits_in_every_state(self, harness: Harness) -> None:
        lease = await harness.run(schedule_to_start_s=30.5, deadline_s=600.0, retry=DELAYS)
        before = await harness.record(lease.ref)
        for change in ("running", "waiting", "final"):
            if change == "waiting":
                await harness.settle(lease, Retry(0, BOOM))
            elif change == "final":
                await harness.settle(await _again(harness), Complete())
            record = await harness.record(lease.ref)
            assert (record.schedule_to_start_s, record.deadline_at, record.retry) == (30.5, before.deadline_at, DELAYS)

    # -- leases -----------------------------------------------------------------------------------------

    async def test_a_lease_tells_what_is_left(self, harness: Harness) -> None:
        await harness.enqueue(schedule_to_start_s=100.0, deadline_s=600.0, retry=DELAYS)
        await harness.advance(40)
        lease = await _again(harness)
        assert near_s(lease.start_in_s, 60)
        assert near_s(lease.deadline_in_s, 560)
        assert (lease.retry, lease.tried_for_s) == (DELAYS, 0.0)

    async def test_each_limit_is_told_alone(self, harness: Harness) -> None:
        start = await harness.run(queue="a", schedule_to_start_s=100.0)
        assert (near_s(start.start_in_s, 100), start.deadline_in_s, start.retry) == (True, None, None)
        end = await harness.run(queue="b", deadline_s=100.0)
        assert (end.start_in_s, near_s(end.deadline_in_s, 100), end.retry) == (None, True, None)
        retry = await harness.run(queue="c", retry=RetryDelays())
        assert (retry.start_in_s, retry.deadline_in_s, retry.retry) == (None, None, RetryDelays())

    async def test_a_plain_job_has_no_limits_in_its_lease_also_when_it_is_retried(self, harness: Harness) -> None:
        first = await harness.run()
        await harness.settle(first, Retry(0, BOOM))
        for lease in (first, await _again(harness)):
            assert (lease.start_in_s, lease.deadline_in_s, lease.retry) == (None, None, None)

    async def test_an_expired_job_is_claimed_and_says_so(self, harness: Harness) -> None:
        ref = await harness.enqueue(schedule_to_start_s=50.0, deadline_s=200.0)
        await harness.advance(100)
        lease = await _again(harness)
        assert near_s(lease.start_in_s, -50)
        assert near_s(lease.deadline_in_s, 100)
        assert await harness.settle(lease, Dead(BOOM, "expired")) is Answer.APPLIED
        record = await harness.record(ref)
        assert (record.state, record.reason) == (JobState.DEAD, "expired")

    async def test_a_job_past_its_deadline_is_claimed_and_says_so(self, harness: Harness) -> None:
        await harness.enqueue(deadline_s=50.0)
        await harness.advance(100)
        assert near_s((await _again(harness)).deadline_in_s, -50)

    async def test_the_time_to_start_counts_from_the_run_at_of_each_attempt(self, harness: Harness) -> None:
        await harness.enqueue(schedule_to_start_s=50.0, deadline_s=10_000.0, delay_s=1000.0)
        await harness.advance(1010)
        lease = await _again(harness)
        assert near_s(lease.start_in_s, 40)
        await harness.settle(lease, Retry(500, BOOM))
        await harness.advance(520)
        again = await _again(harness)
        assert near_s(again.start_in_s, 30)
        assert near_s(again.deadline_in_s, 10_000 - 1530)

    async def test_a_lease_tells_for_how_long_the_job_is_being_tried(self, harness: Harness) -> None:
        await harness.enqueue()
        await harness.advance(300)
        tried = []
        for _ in range(3):
            lease = await _again(harness)
            tried.append(lease.tried_for_s)
            await harness.settle(lease, Retry(90, BOOM))
            await harness.advance(100)
        assert tried[0] == 0.0
        assert near_s(tried[1], 100)
        assert near_s(tried[2], 200)

    async def test_the_time_of_trying_counts_from_the_first_claim_also_of_one_handed_back(
        self, harness: Harness
    ) -> None:
        for limits in ({}, {"deadline_s": 10_000.0}):
            await harness.enqueue(**limits)
            tried = []
            for outcome in (Release(), Snooze(90), Retry(90, BOOM), Complete()):
                lease = await _again(harness)
                tried.append(lease.tried_for_s)
                await harness.settle(lease, outcome)
                await harness.advance(100)
            assert all(near_s(seconds, 100 * number) for number, seconds in enumerate(tried)), tried

    async def test_a_crash_is_a_try(self, harness: Harness) -> None:
        lease = await harness.run()
        await harness.lose(lease)
        await harness.advance(2 * CRASH_DELAY_S)
        assert (await _again(harness)).tried_for_s > CRASH_DELAY_S

    # -- the sweep --------------------------------------------------------------------------------------

    async def test_a_job_that_was_not_started_in_time_is_dead(self, harness: Harness) -> None:
        ref = await harness.enqueue(schedule_to_start_s=60.0, delay_s=500.0)
        await harness.advance(550)
        assert await harness.sweep_all(Duty.EXPIRED) == 0
        await harness.advance(20)
        assert await harness.sweep_all(Duty.EXPIRED) == 1
        record = await harness.record(ref)
        assert (record.state, record.reason, record.attempt, record.crashes) == (JobState.DEAD, "expired", 0, 0)
        assert [(error.attempt, error.type) for error in record.errors] == [(0, "DeadlineExceeded")]
        assert near(record.finished_at, record.created_at, 570)
        assert await harness.claim() == []

    async def test_a_job_past_its_deadline_is_dead_also_before_it_is_due(self, harness: Harness) -> None:
        ref = await harness.enqueue(deadline_s=60.0, delay_s=500.0, schedule_to_start_s=10.0)
        await harness.advance(70)
        assert await harness.sweep_all(Duty.EXPIRED) == 1
        record = await harness.record(ref)
        assert (record.state, record.reason) == (JobState.DEAD, "deadline")
        assert [error.type for error in record.errors] == ["DeadlineExceeded"]

    async def test_of_two_limits_that_have_passed_the_deadline_is_named(self, harness: Harness) -> None:
        ref = await harness.enqueue(deadline_s=60.0, schedule_to_start_s=10.0)
        await harness.advance(100)
        await harness.sweep_all(Duty.EXPIRED)
        assert (await harness.record(ref)).reason == "deadline"

    async def test_every_way_back_to_waiting_counts_the_time_to_start_anew(self, harness: Harness) -> None:
        lease = await harness.run(schedule_to_start_s=60.0, max_attempts=50)
        for outcome in (Retry(500, BOOM), Snooze(500)):
            await harness.settle(lease, outcome)
            await harness.advance(550)
            assert await harness.sweep_all(Duty.EXPIRED) == 0
            lease = await _again(harness)
        await harness.advance(50)
        await harness.settle(lease, Release())
        await harness.advance(50)
        assert await harness.sweep_all(Duty.EXPIRED) == 0
        lease = await _again(harness)
        await harness.lose(lease)
        await harness.advance(CRASH_DELAY_S + 50)
        assert await harness.sweep_all(Duty.EXPIRED) == 0
        await harness.advance(20)
        assert await harness.sweep_all(Duty.EXPIRED) == 1
        assert (await harness.record(lease.ref)).reason == "expired"

    async def test_a_retry_that_comes_after_the_deadline_does_not_come(self, harness: Harness) -> None:
        lease = await harness.run(deadline_s=100.0)
        await harness.settle(lease, Retry(500, BOOM))
        await harness.advance(110)
        assert await harness.sweep_all(Duty.EXPIRED) == 1
        record = await harness.record(lease.ref)
        assert (record.state, record.reason, record.attempt) == (JobState.DEAD, "deadline", 1)
        assert [error.type for error in record.errors] == ["ValueError", "DeadlineExceeded"]

    async def test_running_jobs_are_left_to_their_workers(self, harness: Harness) -> None:
        worker = await harness.worker(ttl_s=10_000)
        lease = await harness.run(worker, schedule_to_start_s=10.0, deadline_s=20.0)
        await harness.advance(100)
        assert await harness.sweep_all(Duty.EXPIRED) == 0
        assert await harness.settle(lease, Complete()) is Answer.APPLIED

    async def test_jobs_without_limits_never_expire(self, harness: Harness) -> None:
        ref = await harness.enqueue()
        await harness.advance(1e7)
        assert await harness.sweep_all(Duty.EXPIRED) == 0
        assert await harness.state(ref) is JobState.READY

    async def test_an_outcome_of_a_job_that_has_expired_since_is_lost(self, harness: Harness) -> None:
        lease = await harness.run(deadline_s=100.0)
        await harness.settle(lease, Retry(0, BOOM))
        await harness.advance(110)
        await harness.sweep_all(Duty.EXPIRED)
        assert await harness.settle(lease, Complete()) is Answer.LOST
        assert await harness.state(lease.ref) is JobState.DEAD

    async def test_an_expiry_sweep_takes_no_more_than_its_limit(self, harness: Harness) -> None:
        await harness.store.enqueue([new_job(deadline_s=60.0) for _ in range(3)])
        await harness.advance(100)
        first = await harness.store.sweep(Duty.EXPIRED, 2)
        assert (first.count, first.more) == (2, True)
        assert await harness.sweep_all(Duty.EXPIRED) == 1

    async def test_jobs_of_every_tenant_and_queue_expire(self, harness: Harness) -> None:
        refs = [await harness.enqueue(tenant=tenant, queue=tenant, deadline_s=60.0) for tenant in ("a", "b")]
        await harness.advance(100)
        assert await harness.sweep_all(Duty.EXPIRED) == 2
        assert [await harness.state(ref) for ref in refs] == [JobState.DEAD] * 2

    async def test_jobs_of_a_paused_queue_expire(self, harness: Harness) -> None:
        ref = await harness.enqueue(schedule_to_start_s=60.0)
        await harness.store.pause("default", "default", True)
        await harness.advance(100)
        assert await harness.sweep_all(Duty.EXPIRED) == 1
        assert await harness.state(ref) is JobState.DEAD

    async def test_a_cancelled_job_does_not_expire(self, harness: Harness) -> None:
        ref = await harness.enqueue(deadline_s=60.0)
        await harness.change(ref, CancelJobs())
        await harness.advance(100)
        assert await harness.sweep_all(Duty.EXPIRED) == 0
        assert await harness.state(ref) is JobState.CANCELLED

    async def test_an_expired_job_can_be_retried_by_hand(self, harness: Harness) -> None:
        ref = await harness.enqueue(deadline_s=60.0, schedule_to_start_s=30.0)
        await harness.advance(100)
        await harness.sweep_all(Duty.EXPIRED)
        assert await harness.change(ref, RetryJobs()) is ChangeStatus.CHANGED
        assert await harness.sweep_all(Duty.EXPIRED) == 0
        lease = await _again(harness)
        assert (near_s(lease.start_in_s, 30), lease.deadline_in_s) == (True, None)
