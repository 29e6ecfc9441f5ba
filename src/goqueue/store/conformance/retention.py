"""Retention: how long the history keeps what, with the default settings of a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from goqueue.model.admin import Duty
from goqueue.model.job import OnConflict
from goqueue.model.outcome import Answer, Cancel, Complete, Dead, Release, Retry, Settlement
from goqueue.model.query import CancelJobs, ChangeStatus, EnqueueStatus, Filter, Query, RetryJobs
from goqueue.model.state import JobState
from goqueue.settings import StoreSettings
from goqueue.store.conformance.harness import BOOM, NO_TRACE, SHORT, SHORT_S, TTL_S, new_job, unique

if TYPE_CHECKING:
    from goqueue.model.job import JobRef
    from goqueue.store.conformance.harness import Harness

DAY_S: Final = 86_400.0
KEPT_S: Final = StoreSettings().completed_retention_s
FINAL: Final = (JobState.COMPLETED, JobState.CANCELLED, JobState.DEAD)


async def _no_trace(harness: Harness, ref: JobRef) -> None:
    """Look for a job everywhere, and do not find it."""
    assert await harness.find(ref) is None
    assert await harness.store.history([ref]) == [None]
    assert (await harness.store.find(Query(filter=Filter(ids=(ref.id,))))).jobs == ()
    assert await harness.change(ref, RetryJobs()) is ChangeStatus.NOT_FOUND
    assert await harness.claim(queues=[ref.queue]) == []


class RetentionCases:
    """A store may keep jobs up to two days longer than asked (whole days are dropped), never less long."""

    async def test_completed_and_cancelled_jobs_are_kept_for_their_retention(self, harness: Harness) -> None:
        refs = [await harness.finish(state) for state in (JobState.COMPLETED, JobState.CANCELLED)]
        await harness.advance(KEPT_S - 60)
        await harness.sweep_all(Duty.HISTORY)
        for ref in refs:
            assert await harness.find(ref) is not None

    async def test_completed_and_cancelled_jobs_go_after_their_retention(self, harness: Harness) -> None:
        refs = [await harness.finish(state) for state in (JobState.COMPLETED, JobState.CANCELLED)]
        await harness.advance(KEPT_S + 2 * DAY_S)
        await harness.sweep_all(Duty.HISTORY)
        assert await harness.store.get("default", [ref.id for ref in refs]) == [None, None]
        assert await harness.store.history(refs) == [None, None]
        assert (await harness.store.find(Query(filter=Filter()))).jobs == ()

    async def test_dead_jobs_are_kept_for_ever(self, harness: Harness) -> None:
        ref = await harness.finish(JobState.DEAD)
        await harness.advance(1000 * DAY_S)
        await harness.sweep_all(Duty.HISTORY)
        assert await harness.state(ref) is JobState.DEAD

    async def test_live_jobs_are_never_swept_from_history(self, harness: Harness) -> None:
        ref = await harness.enqueue(delay_s=50 * DAY_S)
        await harness.advance(100 * DAY_S)
        await harness.sweep_all(Duty.HISTORY)
        assert await harness.state(ref) is JobState.READY

    async def test_a_key_goes_with_the_last_trace_of_its_holder(self, harness: Harness) -> None:
        key = unique(final_states=[JobState.COMPLETED])
        ref = await harness.finish(JobState.COMPLETED, unique=key)
        await harness.advance(KEPT_S - 60)
        await harness.sweep_all(Duty.HISTORY)
        assert (await harness.try_enqueue(new_job(unique=key))).ref == ref
        await harness.advance(3 * DAY_S)
        await harness.sweep_all(Duty.HISTORY)
        assert (await harness.try_enqueue(new_job(unique=key))).status is EnqueueStatus.INSERTED

    async def test_a_queue_can_have_a_retention_of_its_own(self, harness: Harness) -> None:
        refs = [await harness.finish(state, queue=SHORT) for state in FINAL]
        other = await harness.finish(JobState.COMPLETED)
        await harness.advance(SHORT_S - 60)
        await harness.sweep_all(Duty.HISTORY)
        assert [await harness.state(ref) for ref in refs] == list(FINAL)
        await harness.advance(2 * DAY_S)
        await harness.sweep_all(Duty.HISTORY)
        assert await harness.store.get("default", [ref.id for ref in refs]) == [None] * 3
        assert await harness.find(other) is not None

    # -- retention 0 --------------------------------------------------------------------------------------

    async def test_retention_0_leaves_no_trace_of_a_settled_job(self, harness: Harness) -> None:
        for outcome in (Complete(b"1"), Cancel(), Dead(BOOM)):
            lease = await harness.run(queue=NO_TRACE)
            assert await harness.settle(lease, outcome) is Answer.APPLIED
            await _no_trace(harness, lease.ref)

    async def test_retention_0_leaves_no_trace_of_a_cancelled_job(self, harness: Harness) -> None:
        ref = await harness.enqueue(queue=NO_TRACE)
        assert await harness.change(ref, CancelJobs()) is ChangeStatus.CHANGED
        await _no_trace(harness, ref)
        lease = await harness.run(queue=NO_TRACE)
        await harness.change(lease.ref, CancelJobs())
        assert await harness.settle(lease, Release()) is Answer.APPLIED
        await _no_trace(harness, lease.ref)

    async def test_retention_0_leaves_no_trace_of_what_a_sweep_ends(self, harness: Harness) -> None:
        late = await harness.enqueue(queue=NO_TRACE, deadline_s=10.0)
        await harness.advance(20)
        assert await harness.sweep_all(Duty.EXPIRED) == 1
        await _no_trace(harness, late)
        lease = await harness.run(queue=NO_TRACE, max_attempts=1)
        await harness.advance(2 * TTL_S)
        assert await harness.sweep_all(Duty.ORPHANS) == 1
        await _no_trace(harness, lease.ref)

    async def test_retention_0_keeps_what_is_not_final(self, harness: Harness) -> None:
        lease = await harness.run(queue=NO_TRACE)
        await harness.settle(lease, Retry(60, BOOM))
        assert await harness.state(lease.ref) is JobState.RETRYING

    async def test_retention_0_frees_keys_that_would_be_held_for_good(self, harness: Harness) -> None:
        for final_states in ((), FINAL):
            key = unique(final_states=final_states)
            lease = await harness.run(queue=NO_TRACE, unique=key)
            await harness.settle(lease, Complete())
            assert await harness.held_by(key, queue=NO_TRACE) is None

    async def test_retention_0_holds_a_key_for_its_window(self, harness: Harness) -> None:
        key = unique(final_states=FINAL, window_s=600)
        lease = await harness.run(queue=NO_TRACE, unique=key)
        ref = lease.ref
        await harness.settle(lease, Complete())
        await _no_trace(harness, ref)
        for mode, status in (
            (OnConflict.RETURN, EnqueueStatus.DUPLICATE),
            (OnConflict.REJECT, EnqueueStatus.REJECTED),
            (OnConflict.REPLACE, EnqueueStatus.DUPLICATE),
        ):
            asked = unique(final_states=FINAL, window_s=600, on_conflict=mode)
            answer = await harness.try_enqueue(new_job(queue=NO_TRACE, unique=asked))
            assert (answer.status, answer.ref) == (status, ref)
        await harness.sweep_all(Duty.HISTORY)
        assert await harness.held_by(key, queue=NO_TRACE) == ref
        await harness.advance(700)
        assert await harness.held_by(key, queue=NO_TRACE) is None

    async def test_retention_0_knows_a_job_by_its_key_while_that_is_held(self, harness: Harness) -> None:
        """Its answer was lost, and it has run: it must not run a second time because it left no other trace."""
        for retry in (True, False):
            job = new_job(queue=NO_TRACE, unique=unique(f"{retry}", final_states=FINAL, window_s=600))
            await harness.store.enqueue([job])
            (lease,) = await harness.claim(queues=(NO_TRACE,))
            await harness.settle(lease, Complete())
            (again,) = await harness.store.enqueue([job], retry=retry)
            assert (again.status, again.ref) == (EnqueueStatus.EXISTS, job.ref)
            await harness.advance(700)
            (later,) = await harness.store.enqueue([job], retry=retry)
            assert later.status is EnqueueStatus.INSERTED
            await harness.change(job.ref, CancelJobs())

    async def test_retention_0_spares_the_neighbours_in_a_batch(self, harness: Harness) -> None:
        leases = [await harness.run(queue=queue) for queue in (NO_TRACE, "a", NO_TRACE, "b")]
        answers = await harness.store.settle([Settlement(lease.ref, lease.fence, Complete(b"1")) for lease in leases])
        assert answers == [Answer.APPLIED] * 4
        records = await harness.store.get("default", [lease.id for lease in leases])
        assert [record and record.queue for record in records] == [None, "a", None, "b"]

    async def test_jobs_can_finish_on_any_day_to_come(self, harness: Harness) -> None:
        for _ in range(3):
            await harness.advance(40 * DAY_S)
            ref = await harness.finish(JobState.COMPLETED)
            assert await harness.state(ref) is JobState.COMPLETED
