"""Sweeps: what becomes of the jobs of workers that are gone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from goqueue.model.admin import Duty
from goqueue.model.limits import WORKER_KEPT_S
from goqueue.model.outcome import Answer, Complete
from goqueue.model.query import CancelJobs
from goqueue.model.state import JobState
from goqueue.store.conformance.harness import CRASH_DELAY_S, TTL_S, near

if TYPE_CHECKING:
    from goqueue.model.lease import Lease
    from goqueue.store.conformance.harness import Harness


async def _crash(harness: Harness, lease: Lease) -> None:
    """Let the lease's worker be gone, and its jobs be recovered."""
    await harness.advance(2 * TTL_S)
    assert await harness.sweep_all(Duty.ORPHANS) == 1
    assert (await harness.record(lease.ref)).state is not JobState.RUNNING


class SweepCases:
    """Orphans and workers."""

    async def test_the_jobs_of_a_live_worker_are_left_alone(self, harness: Harness) -> None:
        lease = await harness.run()
        await harness.advance(TTL_S - 10)
        for duty in Duty:
            await harness.sweep_all(duty)
        assert await harness.settle(lease, Complete()) is Answer.APPLIED

    async def test_an_orphan_is_due_again_after_the_crash_delay(self, harness: Harness) -> None:
        lease = await harness.run()
        await _crash(harness, lease)
        record = await harness.record(lease.ref)
        assert (record.state, record.attempt, record.crashes) == (JobState.RETRYING, 1, 1)
        assert (record.worker_id, record.finished_at) == (None, None)
        assert near(record.run_at, record.attempted_at, 2 * TTL_S + CRASH_DELAY_S)
        (error,) = record.errors
        assert (error.attempt, error.type) == (1, "WorkerCrashed")
        assert near(error.at, record.attempted_at, 2 * TTL_S)
        assert await harness.claim() == []

    async def test_an_orphan_is_claimed_under_a_fence_that_counts_the_sweep(self, harness: Harness) -> None:
        lease = await harness.run()
        await _crash(harness, lease)
        await harness.advance(2 * CRASH_DELAY_S)
        (again,) = await harness.claim()
        assert (again.ref, again.attempt, again.crashes) == (lease.ref, 2, 1)
        assert again.fence == lease.fence + 2

    async def test_a_crash_on_the_last_attempt_is_the_end(self, harness: Harness) -> None:
        lease = await harness.run(max_attempts=1)
        await _crash(harness, lease)
        record = await harness.record(lease.ref)
        assert (record.state, record.reason, record.attempt, record.crashes) == (JobState.DEAD, "crashed", 1, 1)
        assert [(error.attempt, error.type) for error in record.errors] == [(1, "WorkerCrashed")]
        assert near(record.finished_at, record.attempted_at, 2 * TTL_S)

    async def test_a_job_that_kills_its_workers_is_dead_at_max_crashes(self, harness: Harness) -> None:
        ref = await harness.enqueue(max_crashes=3, max_attempts=100)
        for crash in (1, 2, 3):
            (lease,) = await harness.claim()
            await _crash(harness, lease)
            record = await harness.record(ref)
            assert record.crashes == crash
            assert record.state is (JobState.DEAD if crash == 3 else JobState.RETRYING)
            await harness.advance(10 * CRASH_DELAY_S)
        assert (record.reason, record.attempt) == ("crashed", 3)
        assert [error.attempt for error in record.errors] == [1, 2, 3]
        assert await harness.claim() == []

    async def test_an_orphan_to_be_cancelled_is_cancelled(self, harness: Harness) -> None:
        for max_attempts in (20, 1):
            worker = await harness.worker()
            lease = await harness.run(worker, max_attempts=max_attempts)
            await harness.change(lease.ref, CancelJobs())
            await _crash(harness, lease)
            record = await harness.record(lease.ref)
            assert (record.state, record.reason, record.crashes) == (JobState.CANCELLED, "cancelled", 1)
            assert record.worker_id == worker

    async def test_a_sweep_takes_no_more_than_its_limit(self, harness: Harness) -> None:
        for _ in range(3):
            await harness.enqueue()
        assert len(await harness.claim()) == 3
        await harness.advance(2 * TTL_S)
        first = await harness.store.sweep(Duty.ORPHANS, 2)
        assert (first.count, first.more) == (2, True)
        assert await harness.sweep_all(Duty.ORPHANS) == 1
        await harness.advance(2 * CRASH_DELAY_S)
        assert len(await harness.claim()) == 3

    async def test_only_the_jobs_of_the_gone_worker_are_orphans(self, harness: Harness) -> None:
        gone, alive = await harness.worker(), await harness.worker(ttl_s=10 * TTL_S)
        orphan, kept = await harness.run(gone), await harness.run(alive)
        await harness.advance(2 * TTL_S)
        assert await harness.sweep_all(Duty.ORPHANS) == 1
        assert await harness.state(orphan.ref) is JobState.RETRYING
        assert await harness.state(kept.ref) is JobState.RUNNING

    async def test_orphans_of_every_tenant_are_recovered(self, harness: Harness) -> None:
        leases = [await harness.run(tenant=tenant) for tenant in ("a", "b")]
        await harness.advance(2 * TTL_S)
        assert await harness.sweep_all(Duty.ORPHANS) == 2
        assert [await harness.state(lease.ref) for lease in leases] == [JobState.RETRYING] * 2

    async def test_concurrent_sweeps_recover_each_orphan_once(self, harness: Harness) -> None:
        for _ in range(10):
            await harness.enqueue()
        await harness.claim()
        await harness.advance(2 * TTL_S)
        swept = await asyncio.gather(*(harness.store.sweep(Duty.ORPHANS, 100) for _ in range(4)))
        assert sum(s.count for s in swept) + await harness.sweep_all(Duty.ORPHANS) == 10
        await harness.advance(2 * CRASH_DELAY_S)
        assert {lease.fence for lease in await harness.claim()} == {3}

    # -- workers ----------------------------------------------------------------------------------------

    async def test_a_gone_worker_is_kept_while_it_holds_jobs(self, harness: Harness) -> None:
        worker = await harness.worker()
        await harness.run(worker)
        await harness.advance(TTL_S + 2 * WORKER_KEPT_S)
        assert await harness.sweep_all(Duty.WORKERS) == 0
        assert [record.id for record in await harness.store.workers("default")] == [worker]
        await harness.sweep_all(Duty.ORPHANS)
        assert await harness.sweep_all(Duty.WORKERS) == 1
        assert await harness.store.workers("default") == []

    async def test_a_gone_worker_is_kept_for_a_while(self, harness: Harness) -> None:
        """A claim that began within its lease may be committed later, and must find its worker's row."""
        worker = await harness.worker()
        await harness.beat(worker, ttl_s=0)
        await harness.advance(WORKER_KEPT_S / 2)
        assert await harness.sweep_all(Duty.WORKERS) == 0
        await harness.advance(WORKER_KEPT_S)
        assert await harness.sweep_all(Duty.WORKERS) == 1

    async def test_a_live_worker_is_kept(self, harness: Harness) -> None:
        worker = await harness.worker()
        assert await harness.sweep_all(Duty.WORKERS) == 0
        assert [record.id for record in await harness.store.workers("default")] == [worker]

    async def test_the_jobs_of_a_worker_without_a_row_are_found_by_the_full_sweep(self, harness: Harness) -> None:
        worker = await harness.worker()
        lease = await harness.run(worker)
        kept = await harness.run(await harness.worker())
        assert await harness.sweep_all(Duty.ORPHANS_FULL) == 0
        await harness.forget_worker(worker)
        assert await harness.sweep_all(Duty.ORPHANS) == 0
        assert await harness.sweep_all(Duty.ORPHANS_FULL) == 1
        record = await harness.record(lease.ref)
        assert (record.state, record.crashes) == (JobState.RETRYING, 1)
        assert await harness.settle(lease, Complete()) is Answer.LOST
        assert await harness.settle(kept, Complete()) is Answer.APPLIED

    async def test_the_full_sweep_ends_a_job_on_its_last_attempt(self, harness: Harness) -> None:
        worker = await harness.worker()
        lease = await harness.run(worker, max_attempts=1)
        await harness.forget_worker(worker)
        assert await harness.sweep_all(Duty.ORPHANS_FULL) == 1
        record = await harness.record(lease.ref)
        assert (record.state, record.reason) == (JobState.DEAD, "crashed")
        assert [error.type for error in record.errors] == ["WorkerCrashed"]
