"""Cancel, retry, delete."""

from __future__ import annotations

from typing import TYPE_CHECKING

from goqueue.model.admin import Duty
from goqueue.model.job import JobRef
from goqueue.model.outcome import Complete, Dead, Release, Retry
from goqueue.model.query import CancelJobs, ChangeStatus, DeleteJobs, RetryJobs, Selection
from goqueue.model.state import JobState
from goqueue.store.conformance.harness import BOOM, TTL_S, near, new_id

if TYPE_CHECKING:
    from goqueue.store.conformance.harness import Harness

FINAL = (JobState.COMPLETED, JobState.CANCELLED, JobState.DEAD)


class ChangeCases:
    """What operators do to jobs."""

    async def test_unknown_ids_are_not_found(self, harness: Harness) -> None:
        for change in (CancelJobs(), RetryJobs(), DeleteJobs()):
            for unknown in (new_id(), "no-uuid", ""):
                ref = JobRef("default", "default", unknown)
                assert await harness.change(ref, change) is ChangeStatus.NOT_FOUND

    async def test_the_jobs_of_another_tenant_are_not_found(self, harness: Harness) -> None:
        waiting = await harness.enqueue(tenant="acme")
        final = await harness.finish(JobState.DEAD, tenant="acme", queue="final")
        for change in (CancelJobs(), RetryJobs(), DeleteJobs()):
            for ref in (waiting, final):
                foreign = JobRef("default", ref.queue, ref.id)
                assert await harness.change(foreign, change) is ChangeStatus.NOT_FOUND
        assert await harness.state(waiting) is JobState.READY
        assert await harness.state(final) is JobState.DEAD

    async def test_a_selection_is_answered_in_its_order(self, harness: Harness) -> None:
        waiting, unknown = await harness.enqueue(delay_s=60), new_id()
        running = await harness.run()
        done = await harness.finish(JobState.COMPLETED, queue="other")
        ids = (done.id, unknown, running.id, waiting.id)
        changed = await harness.store.change(Selection("default", ids), CancelJobs())
        assert [answer.id for answer in changed] == list(ids)
        assert [answer.status for answer in changed] == [
            ChangeStatus.WRONG_STATE,
            ChangeStatus.NOT_FOUND,
            ChangeStatus.REQUESTED,
            ChangeStatus.CHANGED,
        ]

    async def test_an_empty_selection_has_no_answers(self, harness: Harness) -> None:
        assert await harness.store.change(Selection("default", ()), CancelJobs()) == []

    # -- cancel -----------------------------------------------------------------------------------------

    async def test_a_waiting_job_is_cancelled_at_once(self, harness: Harness) -> None:
        for fields in ({}, {"delay_s": 600}):
            ref = await harness.enqueue(**fields)
            await harness.advance(30)
            assert await harness.change(ref, CancelJobs("no need")) is ChangeStatus.CHANGED
            record = await harness.record(ref)
            assert (record.state, record.reason, record.attempt) == (JobState.CANCELLED, "no need", 0)
            assert near(record.finished_at, record.created_at, 30)
            assert near(record.cancel_requested_at, record.finished_at)
            assert await harness.change(ref, CancelJobs()) is ChangeStatus.UNCHANGED
            assert (await harness.record(ref)) == record

    async def test_a_cancellation_without_words_has_a_reason(self, harness: Harness) -> None:
        ref = await harness.enqueue()
        await harness.change(ref, CancelJobs())
        assert (await harness.record(ref)).reason == "cancelled"

    async def test_a_retrying_job_is_cancelled_at_once(self, harness: Harness) -> None:
        lease = await harness.run()
        await harness.settle(lease, Retry(600, BOOM))
        assert await harness.change(lease.ref, CancelJobs()) is ChangeStatus.CHANGED
        record = await harness.record(lease.ref)
        assert (record.state, record.attempt, len(record.errors)) == (JobState.CANCELLED, 1, 1)

    async def test_a_running_job_is_asked_to_stop_once(self, harness: Harness) -> None:
        lease = await harness.run()
        assert await harness.change(lease.ref, CancelJobs()) is ChangeStatus.REQUESTED
        record = await harness.record(lease.ref)
        assert record.state is JobState.RUNNING
        assert near(record.cancel_requested_at, record.attempted_at)
        assert await harness.change(lease.ref, CancelJobs()) is ChangeStatus.UNCHANGED
        assert await harness.record(lease.ref) == record

    async def test_a_job_that_has_ended_otherwise_cannot_be_cancelled(self, harness: Harness) -> None:
        for state in (JobState.COMPLETED, JobState.DEAD):
            ref = await harness.finish(state)
            assert await harness.change(ref, CancelJobs()) is ChangeStatus.WRONG_STATE
            assert await harness.state(ref) is state

    # -- retry ------------------------------------------------------------------------------------------

    async def test_a_final_job_is_ready_again(self, harness: Harness) -> None:
        for state in FINAL:
            ref = await harness.finish(state, queue=state.value)
            before = await harness.record(ref)
            await harness.advance(600)
            assert await harness.change(ref, RetryJobs()) is ChangeStatus.CHANGED
            record = await harness.record(ref)
            assert (record.state, record.attempt) == (JobState.READY, before.attempt)
            assert near(record.run_at, before.finished_at, 600)
            assert (record.finished_at, record.result, record.reason, record.worker_id) == (None, None, None, None)
            assert (record.errors, record.created_at) == (before.errors, before.created_at)
            assert [lease.ref for lease in await harness.claim(queues=[state.value])] == [ref]

    async def test_a_retried_job_is_not_in_history_any_more(self, harness: Harness) -> None:
        ref = await harness.finish(JobState.DEAD)
        assert await harness.store.history([ref]) != [None]
        await harness.change(ref, RetryJobs())
        assert await harness.store.history([ref]) == [None]

    async def test_a_retry_grants_at_least_one_more_attempt(self, harness: Harness) -> None:
        lease = await harness.run(max_attempts=1)
        await harness.settle(lease, Dead(BOOM))
        await harness.change(lease.ref, RetryJobs())
        assert (await harness.record(lease.ref)).max_attempts == 2
        (again,) = await harness.claim()
        assert (again.attempt, again.max_attempts, again.fence) == (2, 2, lease.fence + 1)
        await harness.settle(again, Complete())
        await harness.change(lease.ref, RetryJobs())
        assert (await harness.record(lease.ref)).max_attempts == 3

    async def test_a_retry_does_not_raise_what_is_left_anyway(self, harness: Harness) -> None:
        lease = await harness.run(max_attempts=10)
        await harness.settle(lease, Dead(BOOM))
        await harness.change(lease.ref, RetryJobs())
        assert (await harness.record(lease.ref)).max_attempts == 10

    async def test_a_retry_after_crashes_survives_one_more(self, harness: Harness) -> None:
        lease = await harness.run(max_crashes=1)
        await harness.advance(2 * TTL_S)
        await harness.sweep_all(Duty.ORPHANS)
        await harness.change(lease.ref, RetryJobs())
        record = await harness.record(lease.ref)
        assert (record.state, record.crashes, record.max_crashes) == (JobState.READY, 1, 2)
        (again,) = await harness.claim()
        assert await harness.settle(again, Complete())
        assert await harness.state(lease.ref) is JobState.COMPLETED

    async def test_a_retry_forgets_that_somebody_wanted_the_job_cancelled(self, harness: Harness) -> None:
        lease = await harness.run()
        await harness.change(lease.ref, CancelJobs())
        await harness.settle(lease, Release())
        assert await harness.change(lease.ref, RetryJobs()) is ChangeStatus.CHANGED
        assert (await harness.record(lease.ref)).cancel_requested_at is None
        (again,) = await harness.claim()
        await harness.settle(again, Retry(0, BOOM))
        assert await harness.state(lease.ref) is JobState.READY

    async def test_a_waiting_job_is_due_now(self, harness: Harness) -> None:
        ref = await harness.enqueue(delay_s=600)
        assert await harness.change(ref, RetryJobs()) is ChangeStatus.CHANGED
        assert await harness.state(ref) is JobState.READY
        assert await harness.change(ref, RetryJobs()) is ChangeStatus.UNCHANGED
        assert [lease.ref for lease in await harness.claim()] == [ref]

    async def test_a_running_job_cannot_be_retried(self, harness: Harness) -> None:
        lease = await harness.run()
        assert await harness.change(lease.ref, RetryJobs()) is ChangeStatus.WRONG_STATE
        assert await harness.state(lease.ref) is JobState.RUNNING

    # -- delete -----------------------------------------------------------------------------------------

    async def test_a_waiting_job_vanishes(self, harness: Harness) -> None:
        for fields in ({}, {"delay_s": 600}):
            ref = await harness.enqueue(**fields)
            assert await harness.change(ref, DeleteJobs()) is ChangeStatus.CHANGED
            assert await harness.find(ref) is None
            assert await harness.change(ref, DeleteJobs()) is ChangeStatus.NOT_FOUND
        assert await harness.claim() == []

    async def test_a_final_job_vanishes(self, harness: Harness) -> None:
        for state in FINAL:
            ref = await harness.finish(state)
            assert await harness.change(ref, DeleteJobs()) is ChangeStatus.CHANGED
            assert await harness.find(ref) is None
            assert await harness.store.history([ref]) == [None]

    async def test_a_running_job_cannot_be_deleted(self, harness: Harness) -> None:
        lease = await harness.run()
        assert await harness.change(lease.ref, DeleteJobs()) is ChangeStatus.WRONG_STATE
        assert await harness.state(lease.ref) is JobState.RUNNING
