"""Unique keys: who holds one, what a second enqueue gets, and every way in which a key is freed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from goqueue.model.admin import Duty
from goqueue.model.job import OnConflict
from goqueue.model.outcome import Cancel, Complete, Dead, Release, Retry, Snooze
from goqueue.model.query import CancelJobs, ChangeStatus, DeleteJobs, EnqueueStatus, RetryJobs, Selection
from goqueue.model.state import JobState
from goqueue.store.conformance.harness import BOOM, TTL_S, json_of, near, new_job, unique

if TYPE_CHECKING:
    from goqueue.model.job import JobRef, Unique
    from goqueue.store.conformance.harness import Harness

FINAL = (JobState.COMPLETED, JobState.CANCELLED, JobState.DEAD)


async def _held_by(harness: Harness, key: Unique | None = None) -> JobRef | None:
    """Return who holds the key, by trying to take it; a job that took it is deleted again."""
    job = new_job(unique=key or unique())
    answer = await harness.try_enqueue(job)
    if answer.status is EnqueueStatus.INSERTED:
        assert await harness.change(job.ref, DeleteJobs()) is ChangeStatus.CHANGED
        return None
    return answer.ref


class KeyCases:
    """At most one job per key."""

    async def test_the_key_is_shown(self, harness: Harness) -> None:
        record = await harness.record(await harness.enqueue(unique=unique("order-7")))
        assert record.unique_key == "order-7"

    async def test_a_second_job_with_a_key_gets_the_holder(self, harness: Harness) -> None:
        holder = await harness.enqueue(unique=unique())
        answer = await harness.try_enqueue(new_job(unique=unique()))
        assert (answer.status, answer.ref) == (EnqueueStatus.DUPLICATE, holder)
        assert len(await harness.claim()) == 1

    async def test_reject_names_the_holder_and_spares_the_rest_of_the_batch(self, harness: Harness) -> None:
        holder = await harness.enqueue(unique=unique())
        rejected = new_job(unique=unique(on_conflict=OnConflict.REJECT))
        plain, keyed = new_job(), new_job(unique=unique("other"))
        answers = await harness.store.enqueue([plain, rejected, keyed])
        assert [answer.status for answer in answers] == [
            EnqueueStatus.INSERTED,
            EnqueueStatus.REJECTED,
            EnqueueStatus.INSERTED,
        ]
        assert [answer.ref for answer in answers] == [plain.ref, holder, keyed.ref]
        assert await harness.find(rejected.ref) is None

    async def test_replace_renews_a_holder_that_waits(self, harness: Harness) -> None:
        holder = await harness.enqueue(unique=unique(), args=b'{"n":1}', tags=("old",), delay_s=100)
        newer = new_job(
            unique=unique(on_conflict=OnConflict.REPLACE),
            kind="newer",
            args=b'{"n":2}',
            priority=1,
            delay_s=600,
            max_attempts=3,
            max_crashes=9,
            timeout_s=4.0,
            tags=("new",),
            meta={"a": "b"},
        )
        before = await harness.record(holder)
        answer = await harness.try_enqueue(newer)
        after = await harness.record(holder)
        assert (answer.status, answer.ref) == (EnqueueStatus.REPLACED, holder)
        assert await harness.find(newer.ref) is None
        assert (after.kind, json_of(after.args), after.priority) == ("newer", {"n": 2}, 1)
        assert (after.max_attempts, after.max_crashes, after.timeout_s) == (3, 9, 4.0)
        assert (after.tags, after.meta) == (("new",), {"a": "b"})
        assert near(after.run_at, before.run_at, 500)
        assert (after.id, after.created_at, after.unique_key) == (before.id, before.created_at, before.unique_key)

    async def test_replace_keeps_what_a_retrying_holder_has_been_through(self, harness: Harness) -> None:
        lease = await harness.run(unique=unique())
        await harness.settle(lease, Retry(600, BOOM))
        newer = new_job(unique=unique(on_conflict=OnConflict.REPLACE), args=b'{"n":2}', max_attempts=1)
        assert (await harness.try_enqueue(newer)).status is EnqueueStatus.REPLACED
        record = await harness.record(lease.ref)
        assert (json_of(record.args), record.state, record.attempt) == ({"n": 2}, JobState.READY, 1)
        assert record.max_attempts == 2
        assert len(record.errors) == 1

    async def test_replace_leaves_a_running_holder_alone(self, harness: Harness) -> None:
        lease = await harness.run(unique=unique(), args=b'{"n":1}')
        newer = new_job(unique=unique(on_conflict=OnConflict.REPLACE), args=b'{"n":2}')
        answer = await harness.try_enqueue(newer)
        assert (answer.status, answer.ref) == (EnqueueStatus.DUPLICATE, lease.ref)
        assert json_of((await harness.record(lease.ref)).args) == {"n": 1}

    async def test_replace_leaves_a_final_holder_alone(self, harness: Harness) -> None:
        ref = await harness.finish(JobState.COMPLETED, unique=unique(final_states=FINAL), args=b'{"n":1}')
        newer = new_job(unique=unique(on_conflict=OnConflict.REPLACE), args=b'{"n":2}')
        answer = await harness.try_enqueue(newer)
        assert (answer.status, answer.ref) == (EnqueueStatus.DUPLICATE, ref)
        assert json_of((await harness.record(ref)).args) == {"n": 1}

    async def test_a_key_twice_in_a_batch_makes_one_job(self, harness: Harness) -> None:
        first = new_job(unique=unique(), args=b'{"n":1}')
        others = [
            new_job(unique=unique()),
            new_job(unique=unique(on_conflict=OnConflict.REJECT)),
            new_job(unique=unique(on_conflict=OnConflict.REPLACE), args=b'{"n":2}'),
        ]
        answers = await harness.store.enqueue([first, *others])
        assert [answer.status for answer in answers] == [
            EnqueueStatus.INSERTED,
            EnqueueStatus.DUPLICATE,
            EnqueueStatus.REJECTED,
            EnqueueStatus.REPLACED,
        ]
        assert {answer.ref for answer in answers} == {first.ref}
        (lease,) = await harness.claim()
        assert json_of(lease.args) == {"n": 2}

    async def test_a_key_is_unique_within_tenant_and_queue_only(self, harness: Harness) -> None:
        await harness.enqueue(unique=unique())
        await harness.enqueue(unique=unique(), queue="other")
        await harness.enqueue(unique=unique(), tenant="other")
        await harness.enqueue(unique=unique("another key"))

    async def test_a_blind_retry_never_conflicts_with_itself(self, harness: Harness) -> None:
        job = new_job(unique=unique(on_conflict=OnConflict.REJECT))
        await harness.try_enqueue(job)
        assert (await harness.try_enqueue(job, retry=True)).status is EnqueueStatus.EXISTS
        (lease,) = await harness.claim()
        assert (await harness.try_enqueue(job, retry=True)).status is EnqueueStatus.EXISTS
        await harness.settle(lease, Complete())
        assert (await harness.try_enqueue(job, retry=True)).status is EnqueueStatus.EXISTS
        assert await _held_by(harness) is None

    async def test_a_blind_retry_of_a_final_job_ignores_who_holds_its_key_now(self, harness: Harness) -> None:
        job = new_job(unique=unique(on_conflict=OnConflict.REJECT))
        await harness.try_enqueue(job)
        (lease,) = await harness.claim()
        await harness.settle(lease, Complete())
        holder = await harness.enqueue(unique=unique())
        assert (await harness.try_enqueue(job, retry=True)).status is EnqueueStatus.EXISTS
        assert await _held_by(harness) == holder

    async def test_concurrent_enqueues_of_one_key_make_one_job(self, harness: Harness) -> None:
        jobs = [new_job(unique=unique()) for _ in range(16)]
        answers = await asyncio.gather(*(harness.try_enqueue(job) for job in jobs))
        inserted = [answer for answer in answers if answer.status is EnqueueStatus.INSERTED]
        assert len(inserted) == 1
        assert {answer.ref for answer in answers} == {inserted[0].ref}
        assert len(await harness.claim()) == 1

    # -- holding --------------------------------------------------------------------------------------

    async def test_a_key_is_held_while_its_job_is_not_final(self, harness: Harness) -> None:
        ref = await harness.enqueue(unique=unique(), delay_s=60)
        assert (await harness.state(ref), await _held_by(harness)) == (JobState.SCHEDULED, ref)
        await harness.advance(120)
        assert (await harness.state(ref), await _held_by(harness)) == (JobState.READY, ref)
        for outcome in (Snooze(0), Release(), Retry(600, BOOM)):
            (lease,) = await harness.claim()
            assert (await harness.state(ref), await _held_by(harness)) == (JobState.RUNNING, ref)
            await harness.settle(lease, outcome)
            assert await _held_by(harness) == ref
        assert await harness.state(ref) is JobState.RETRYING

    async def test_a_key_is_held_by_a_job_that_its_worker_lost(self, harness: Harness) -> None:
        lease = await harness.run(unique=unique())
        await harness.advance(2 * TTL_S)
        assert await _held_by(harness) == lease.ref
        await harness.sweep_all(Duty.ORPHANS)
        assert (await harness.state(lease.ref), await _held_by(harness)) == (JobState.READY, lease.ref)

    async def test_final_states_go_on_holding_when_asked(self, harness: Harness) -> None:
        for state in FINAL:
            key = unique(state.value, final_states=[state])
            ref = await harness.finish(state, unique=key)
            await harness.advance(86_400)
            assert await _held_by(harness, key) == ref

    async def test_other_final_states_free_the_key(self, harness: Harness) -> None:
        for state in FINAL:
            key = unique(state.value, final_states=[other for other in FINAL if other is not state])
            await harness.finish(state, unique=key)
            assert await _held_by(harness, key) is None

    async def test_a_window_counts_from_the_end_of_the_job(self, harness: Harness) -> None:
        key = unique(final_states=[JobState.COMPLETED], window_s=600)
        lease = await harness.run(unique=key)
        await harness.beat(await harness.worker(), ttl_s=10_000)
        await harness.advance(5000)
        await harness.settle(lease, Complete())
        await harness.advance(500)
        assert await _held_by(harness, key) == lease.ref
        await harness.advance(200)
        assert await _held_by(harness, key) is None

    async def test_a_key_after_its_window_has_one_new_holder(self, harness: Harness) -> None:
        key = unique(final_states=[JobState.COMPLETED], window_s=600)
        await harness.finish(JobState.COMPLETED, unique=key)
        await harness.advance(700)
        holder = await harness.enqueue(unique=key)
        assert (await harness.try_enqueue(new_job(unique=key))).ref == holder
        await harness.advance(7000)
        assert (await harness.try_enqueue(new_job(unique=key))).ref == holder

    # -- every way out of a holding state frees the key -------------------------------------------------

    async def test_completion_frees_the_key(self, harness: Harness) -> None:
        await harness.settle(await harness.run(unique=unique()), Complete())
        assert await _held_by(harness) is None

    async def test_death_frees_the_key(self, harness: Harness) -> None:
        await harness.settle(await harness.run(unique=unique()), Dead(BOOM))
        assert await _held_by(harness) is None

    async def test_cancellation_by_the_handler_frees_the_key(self, harness: Harness) -> None:
        await harness.settle(await harness.run(unique=unique()), Cancel())
        assert await _held_by(harness) is None

    async def test_cancellation_of_a_waiting_job_frees_the_key(self, harness: Harness) -> None:
        await harness.change(await harness.enqueue(unique=unique()), CancelJobs())
        assert await _held_by(harness) is None

    async def test_cancellation_of_a_scheduled_job_frees_the_key(self, harness: Harness) -> None:
        await harness.change(await harness.enqueue(unique=unique(), delay_s=600), CancelJobs())
        assert await _held_by(harness) is None

    async def test_cancellation_of_a_retrying_job_frees_the_key(self, harness: Harness) -> None:
        lease = await harness.run(unique=unique())
        await harness.settle(lease, Retry(600, BOOM))
        await harness.change(lease.ref, CancelJobs())
        assert await _held_by(harness) is None

    async def test_a_requested_cancellation_frees_the_key_when_it_comes_true(self, harness: Harness) -> None:
        for outcome in (Retry(600, BOOM), Snooze(600), Release()):
            lease = await harness.run(unique=unique())
            await harness.change(lease.ref, CancelJobs())
            assert await _held_by(harness) == lease.ref
            await harness.settle(lease, outcome)
            assert await _held_by(harness) is None

    async def test_a_crash_on_the_last_attempt_frees_the_key(self, harness: Harness) -> None:
        lease = await harness.run(unique=unique(), max_attempts=1)
        await harness.advance(2 * TTL_S)
        await harness.sweep_all(Duty.ORPHANS)
        assert (await harness.state(lease.ref), await _held_by(harness)) == (JobState.DEAD, None)

    async def test_a_crash_of_a_job_to_be_cancelled_frees_the_key(self, harness: Harness) -> None:
        lease = await harness.run(unique=unique())
        await harness.change(lease.ref, CancelJobs())
        await harness.advance(2 * TTL_S)
        await harness.sweep_all(Duty.ORPHANS)
        assert (await harness.state(lease.ref), await _held_by(harness)) == (JobState.CANCELLED, None)

    async def test_deleting_a_waiting_job_frees_the_key(self, harness: Harness) -> None:
        await harness.change(await harness.enqueue(unique=unique()), DeleteJobs())
        assert await _held_by(harness) is None

    async def test_deleting_a_final_job_frees_a_key_that_it_holds_for_good(self, harness: Harness) -> None:
        for state in FINAL:
            key = unique(state.value, final_states=FINAL)
            ref = await harness.finish(state, unique=key)
            assert await _held_by(harness, key) == ref
            await harness.change(ref, DeleteJobs())
            assert await _held_by(harness, key) is None

    # -- retries of final jobs --------------------------------------------------------------------------

    async def test_a_retry_takes_the_key_again(self, harness: Harness) -> None:
        for state in FINAL:
            key = unique(state.value)
            ref = await harness.finish(state, unique=key)
            assert await harness.change(ref, RetryJobs()) is ChangeStatus.CHANGED
            assert await _held_by(harness, key) == ref
            await harness.change(ref, CancelJobs())
            assert await _held_by(harness, key) is None

    async def test_a_retry_is_refused_while_another_job_holds_the_key(self, harness: Harness) -> None:
        ref = await harness.finish(JobState.DEAD, unique=unique())
        holder = await harness.enqueue(unique=unique())
        assert await harness.change(ref, RetryJobs()) is ChangeStatus.KEY_HELD
        assert (await harness.state(ref), await _held_by(harness)) == (JobState.DEAD, holder)

    async def test_a_retry_of_a_final_holder_goes_on_holding_beyond_its_window(self, harness: Harness) -> None:
        key = unique(final_states=[JobState.DEAD], window_s=600)
        ref = await harness.finish(JobState.DEAD, unique=key)
        assert await harness.change(ref, RetryJobs()) is ChangeStatus.CHANGED
        await harness.advance(7000)
        assert await _held_by(harness, key) == ref

    async def test_a_retried_job_holds_its_key_in_the_final_states_that_it_asked_for(self, harness: Harness) -> None:
        key = unique(final_states=[JobState.COMPLETED], window_s=600)
        ref = await harness.finish(JobState.DEAD, unique=key)
        await harness.change(ref, RetryJobs())
        (lease,) = await harness.claim()
        await harness.settle(lease, Complete())
        assert await _held_by(harness, key) == ref
        await harness.advance(700)
        assert await _held_by(harness, key) is None

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
        assert await _held_by(harness) == holder
