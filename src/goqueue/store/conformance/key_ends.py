"""Unique keys: every way in which one is freed, and how a manual retry takes it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from goqueue.model.admin import Duty
from goqueue.model.outcome import Answer, Cancel, Complete, Crash, Dead, Release, Retry, Snooze
from goqueue.model.query import CancelJobs, ChangeStatus, DeleteJobs, RetryJobs, Selection
from goqueue.model.state import JobState
from goqueue.store.conformance.harness import BOOM, TTL_S, unique

if TYPE_CHECKING:
    from goqueue.store.conformance.harness import Harness

FINAL = (JobState.COMPLETED, JobState.CANCELLED, JobState.DEAD)


class KeyEndCases:
    """The end of a hold."""

    # -- every way out of a holding state frees the key -------------------------------------------------

    async def test_completion_frees_the_key(self, harness: Harness) -> None:
        await harness.settle(await harness.run(unique=unique()), Complete())
        assert await harness.held_by() is None

    async def test_death_frees_the_key(self, harness: Harness) -> None:
        await harness.settle(await harness.run(unique=unique()), Dead(BOOM))
        assert await harness.held_by() is None

    async def test_cancellation_by_the_handler_frees_the_key(self, harness: Harness) -> None:
        await harness.settle(await harness.run(unique=unique()), Cancel())
        assert await harness.held_by() is None

    async def test_cancellation_of_a_waiting_job_frees_the_key(self, harness: Harness) -> None:
        await harness.change(await harness.enqueue(unique=unique()), CancelJobs())
        assert await harness.held_by() is None

    async def test_cancellation_of_a_scheduled_job_frees_the_key(self, harness: Harness) -> None:
        await harness.change(await harness.enqueue(unique=unique(), delay_s=600), CancelJobs())
        assert await harness.held_by() is None

    async def test_cancellation_of_a_retrying_job_frees_the_key(self, harness: Harness) -> None:
        lease = await harness.run(unique=unique())
        await harness.settle(lease, Retry(600, BOOM))
        await harness.change(lease.ref, CancelJobs())
        assert await harness.held_by() is None

    async def test_a_requested_cancellation_frees_the_key_when_it_comes_true(self, harness: Harness) -> None:
        for outcome in (Retry(600, BOOM), Snooze(600), Release()):
            lease = await harness.run(unique=unique())
            await harness.change(lease.ref, CancelJobs())
            assert await harness.held_by() == lease.ref
            await harness.settle(lease, outcome)
            assert await harness.held_by() is None

    async def test_a_crash_on_the_last_attempt_frees_the_key(self, harness: Harness) -> None:
        lease = await harness.run(unique=unique(), max_attempts=1)
        await harness.advance(2 * TTL_S)
        await harness.sweep_all(Duty.ORPHANS)
        assert (await harness.state(lease.ref), await harness.held_by()) == (JobState.DEAD, None)

    async def test_a_reported_crash_on_the_last_attempt_frees_the_key(self, harness: Harness) -> None:
        lease = await harness.run(unique=unique(), max_attempts=1)
        assert await harness.settle(lease, Crash(BOOM)) is Answer.APPLIED
        assert (await harness.state(lease.ref), await harness.held_by()) == (JobState.DEAD, None)

    async def test_a_reported_crash_of_a_job_to_be_cancelled_frees_the_key(self, harness: Harness) -> None:
        lease = await harness.run(unique=unique())
        await harness.change(lease.ref, CancelJobs())
        assert await harness.settle(lease, Crash(BOOM)) is Answer.APPLIED
        assert (await harness.state(lease.ref), await harness.held_by()) == (JobState.CANCELLED, None)

    async def test_expiry_frees_the_key(self, harness: Harness) -> None:
        for limit in ({"schedule_to_start_s": 60.0}, {"deadline_s": 60.0}):
            ref = await harness.enqueue(unique=unique(), **limit)
            await harness.advance(100)
            assert await harness.held_by() == ref
            assert await harness.sweep_all(Duty.EXPIRED) == 1
            assert (await harness.state(ref), await harness.held_by()) == (JobState.DEAD, None)

    async def test_expiry_holds_the_key_on_when_the_job_asked_for_that(self, harness: Harness) -> None:
        key = unique(final_states=[JobState.DEAD], window_s=600)
        ref = await harness.enqueue(unique=key, deadline_s=60.0)
        await harness.advance(100)
        await harness.sweep_all(Duty.EXPIRED)
        assert await harness.held_by(key) == ref
        await harness.advance(700)
        assert await harness.held_by(key) is None

    async def test_a_crash_of_a_job_to_be_cancelled_frees_the_key(self, harness: Harness) -> None:
        lease = await harness.run(unique=unique())
        await harness.change(lease.ref, CancelJobs())
        await harness.advance(2 * TTL_S)
        await harness.sweep_all(Duty.ORPHANS)
        assert (await harness.state(lease.ref), await harness.held_by()) == (JobState.CANCELLED, None)

    async def test_deleting_a_waiting_job_frees_the_key(self, harness: Harness) -> None:
        await harness.change(await harness.enqueue(unique=unique()), DeleteJobs())
        assert await harness.held_by() is None

    async def test_deleting_a_final_job_frees_a_key_that_it_holds_for_good(self, harness: Harness) -> None:
        for state in FINAL:
            key = unique(state.value, final_states=FINAL)
            ref = await harness.finish(state, unique=key)
            assert await harness.held_by(key) == ref
            await harness.change(ref, DeleteJobs())
            assert await harness.held_by(key) is None

    # -- retries of final jobs --------------------------------------------------------------------------

    async def test_a_retry_takes_the_key_again(self, harness: Harness) -> None:
        for state in FINAL:
            key = unique(state.value)
            ref = await harness.finish(state, unique=key)
            assert await harness.change(ref, RetryJobs()) is ChangeStatus.CHANGED
            assert await harness.held_by(key) == ref
            await harness.change(ref, CancelJobs())
            assert await harness.held_by(key) is None

    async def test_a_retry_is_refused_while_another_job_holds_the_key(self, harness: Harness) -> None:
        ref = await harness.finish(JobState.DEAD, unique=unique())
        holder = await harness.enqueue(unique=unique())
        assert await harness.change(ref, RetryJobs()) is ChangeStatus.KEY_HELD
        assert (await harness.state(ref), await harness.held_by()) == (JobState.DEAD, holder)

    async def test_a_retry_of_a_final_holder_goes_on_holding_beyond_its_window(self, harness: Harness) -> None:
        key = unique(final_states=[JobState.DEAD], window_s=600)
        ref = await harness.finish(JobState.DEAD, unique=key)
        assert await harness.change(ref, RetryJobs()) is ChangeStatus.CHANGED
        await harness.advance(7000)
        assert await harness.held_by(key) == ref

    async def test_a_retried_job_holds_its_key_in_the_final_states_that_it_asked_for(self, harness: Harness) -> None:
        key = unique(final_states=[JobState.COMPLETED], window_s=600)
        ref = await harness.finish(JobState.DEAD, unique=key)
        await harness.change(ref, RetryJobs())
        (lease,) = await harness.claim()
        await harness.settle(lease, Complete())
        assert await harness.held_by(key) == ref
        await harness.advance(700)
        assert await harness.held_by(key) is None

    async def test_of_two_final_jobs_with_one_key_one_is_retried(self, harness: Harness) -> None:
        refs = [await harness.finish(JobState.DEAD, unique=unique()) for _ in range(2)]
        ids = tuple(ref.id for ref in refs)
        changed = await harness.store.change(Selection("default", ids), RetryJobs())
        assert [answer.id for answer in changed] == list(ids)
        assert sorted(a.status for a in changed) == sorted([ChangeStatus.CHANGED, ChangeStatus.KEY_HELD])
        assert len(await harness.claim()) == 1

    async def test_the_end_of_an_old_job_does_not_free_a_key_that_it_lost(self, harness: Harness) -> None:
        old = await harness.finish(JobState.DEAD, unique=unique())
        holder = await harness.enqueue(unique=unique())
        await harness.change(old, DeleteJobs())
        assert await harness.held_by() == holder
