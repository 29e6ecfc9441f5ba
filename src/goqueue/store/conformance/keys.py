"""Unique keys: who holds one, and what a second enqueue gets."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from goqueue.model.admin import Duty
from goqueue.model.job import OnConflict
from goqueue.model.outcome import Complete, Crash, Release, Retry, Snooze
from goqueue.model.query import EnqueueStatus
from goqueue.model.retry import RetryDelays
from goqueue.model.state import JobState
from goqueue.store.conformance.harness import BOOM, TTL_S, json_of, near, near_s, new_job, unique

if TYPE_CHECKING:
    from goqueue.model.job import JobRef
    from goqueue.store.conformance.harness import Harness

FINAL = (JobState.COMPLETED, JobState.CANCELLED, JobState.DEAD)
HOLDING = (JobState.SCHEDULED, JobState.READY, JobState.RUNNING, JobState.RETRYING)


async def _holder(harness: Harness, state: JobState, queue: str) -> JobRef:
    """Return a job that holds the key in ``state``."""
    if state in FINAL:
        return await harness.finish(state, unique=unique(final_states=FINAL), queue=queue)
    if state in (JobState.SCHEDULED, JobState.READY):
        delay_s = 60.0 if state is JobState.SCHEDULED else 0.0
        return await harness.enqueue(unique=unique(), queue=queue, delay_s=delay_s)
    lease = await harness.run(unique=unique(), queue=queue)
    if state is JobState.RETRYING:
        await harness.settle(lease, Retry(60, BOOM))
    return lease.ref


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

    async def test_replace_gives_the_new_limits(self, harness: Harness) -> None:
        old, new = RetryDelays(base_s=1.0), RetryDelays(delays_s=(3.0, 9.0))
        holder = await harness.enqueue(unique=unique(), deadline_s=60.0, schedule_to_start_s=50.0, retry=old)
        await harness.advance(40)
        newer = new_job(unique=unique(on_conflict=OnConflict.REPLACE), deadline_s=600.0, retry=new)
        assert (await harness.try_enqueue(newer)).status is EnqueueStatus.REPLACED
        record = await harness.record(holder)
        assert near(record.deadline_at, record.created_at, 640)
        assert (record.schedule_to_start_s, record.retry) == (None, new)
        await harness.advance(100)
        assert await harness.sweep_all(Duty.EXPIRED) == 0
        (lease,) = await harness.claim()
        assert (lease.start_in_s, lease.retry) == (None, new)
        assert near_s(lease.deadline_in_s, 500)

    async def test_replace_takes_limits_away(self, harness: Harness) -> None:
        holder = await harness.enqueue(unique=unique(), deadline_s=60.0, schedule_to_start_s=50.0, retry=RetryDelays())
        await harness.try_enqueue(new_job(unique=unique(on_conflict=OnConflict.REPLACE)))
        record = await harness.record(holder)
        assert (record.deadline_at, record.schedule_to_start_s, record.retry) == (None, None, None)
        await harness.advance(100)
        assert await harness.sweep_all(Duty.EXPIRED) == 0
        (lease,) = await harness.claim()
        assert (lease.start_in_s, lease.deadline_in_s, lease.retry) == (None, None, None)

    async def test_each_replace_moves_run_at_on(self, harness: Harness) -> None:
        debounce = unique(on_conflict=OnConflict.REPLACE)
        ref = await harness.enqueue(unique=debounce, delay_s=100)
        for _ in range(3):
            await harness.advance(60)
            assert (await harness.try_enqueue(new_job(unique=debounce, delay_s=100))).ref == ref
            assert await harness.claim() == []
        await harness.advance(120)
        assert [lease.ref for lease in await harness.claim()] == [ref]

    async def test_replace_can_keep_run_at(self, harness: Harness) -> None:
        holder = await harness.enqueue(unique=unique(), args=b'{"n":1}', delay_s=100)
        before = await harness.record(holder)
        await harness.advance(30)
        fields = {"args": b'{"n":2}', "delay_s": 600.0, "schedule_to_start_s": 50.0}
        newer = new_job(unique=unique(on_conflict=OnConflict.REPLACE, keep_run_at=True), **fields)
        assert (await harness.try_enqueue(newer)).status is EnqueueStatus.REPLACED
        after = await harness.record(holder)
        assert (json_of(after.args), after.run_at) == ({"n": 2}, before.run_at)
        await harness.advance(130)
        assert await harness.sweep_all(Duty.EXPIRED) == 1  # it counts from the run_at that was kept

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
        assert await harness.held_by() is None

    async def test_a_blind_retry_of_a_replace_renews_the_holder_again(self, harness: Harness) -> None:
        """Nothing is kept of the first answer: once the holder has ended, the same enqueue is a job of its own."""
        holder = await harness.enqueue(unique=unique())
        newer = new_job(unique=unique(on_conflict=OnConflict.REPLACE), args=b'{"n":2}')
        assert (await harness.try_enqueue(newer)).status is EnqueueStatus.REPLACED
        again = await harness.try_enqueue(newer, retry=True)
        assert (again.status, again.ref) == (EnqueueStatus.REPLACED, holder)
        assert await harness.find(newer.ref) is None
        (lease,) = await harness.claim()
        await harness.settle(lease, Complete())
        assert (await harness.try_enqueue(newer, retry=True)).status is EnqueueStatus.INSERTED

    async def test_a_blind_retry_of_a_final_job_ignores_who_holds_its_key_now(self, harness: Harness) -> None:
        job = new_job(unique=unique(on_conflict=OnConflict.REJECT))
        await harness.try_enqueue(job)
        (lease,) = await harness.claim()
        await harness.settle(lease, Complete())
        holder = await harness.enqueue(unique=unique())
        assert (await harness.try_enqueue(job, retry=True)).status is EnqueueStatus.EXISTS
        assert await harness.held_by() == holder

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
        assert (await harness.state(ref), await harness.held_by()) == (JobState.SCHEDULED, ref)
        await harness.advance(120)
        assert (await harness.state(ref), await harness.held_by()) == (JobState.READY, ref)
        for outcome in (Snooze(0), Release(), Retry(600, BOOM)):
            (lease,) = await harness.claim()
            assert (await harness.state(ref), await harness.held_by()) == (JobState.RUNNING, ref)
            await harness.settle(lease, outcome)
            assert await harness.held_by() == ref
        assert await harness.state(ref) is JobState.RETRYING

    async def test_a_key_is_held_by_a_job_that_its_worker_lost(self, harness: Harness) -> None:
        lease = await harness.run(unique=unique())
        await harness.advance(2 * TTL_S)
        assert await harness.held_by() == lease.ref
        await harness.sweep_all(Duty.ORPHANS)
        assert (await harness.state(lease.ref), await harness.held_by()) == (JobState.RETRYING, lease.ref)

    async def test_a_key_is_held_by_a_job_whose_process_crashed(self, harness: Harness) -> None:
        lease = await harness.run(unique=unique())
        await harness.settle(lease, Crash(BOOM))
        assert (await harness.state(lease.ref), await harness.held_by()) == (JobState.RETRYING, lease.ref)

    async def test_every_way_to_ask_meets_a_holder_in_every_state_also_in_bulk(self, harness: Harness) -> None:
        for state in (*HOLDING, *FINAL):
            queue = state.value
            holder = await _holder(harness, state, queue)
            modes = [mode for mode in OnConflict for _ in range(2)]
            asked = [new_job(unique=unique(on_conflict=mode), queue=queue) for mode in modes]
            plain = new_job()
            answers = await harness.store.enqueue([*asked[:3], plain, *asked[3:]])
            assert answers.pop(3).status is EnqueueStatus.INSERTED
            waits = state in (JobState.SCHEDULED, JobState.READY, JobState.RETRYING)
            replaced = EnqueueStatus.REPLACED if waits else EnqueueStatus.DUPLICATE
            expected = {
                OnConflict.RETURN: EnqueueStatus.DUPLICATE,
                OnConflict.REJECT: EnqueueStatus.REJECTED,
                OnConflict.REPLACE: replaced,
            }
            assert [answer.status for answer in answers] == [expected[mode] for mode in modes], state
            assert {answer.ref for answer in answers} == {holder}, state
            assert await harness.store.get("default", [job.id for job in asked]) == [None] * 6

    async def test_final_states_go_on_holding_when_asked(self, harness: Harness) -> None:
        for state in FINAL:
            key = unique(state.value, final_states=[state])
            ref = await harness.finish(state, unique=key)
            await harness.advance(86_400)
            assert await harness.held_by(key) == ref

    async def test_other_final_states_free_the_key(self, harness: Harness) -> None:
        for state in FINAL:
            key = unique(state.value, final_states=[other for other in FINAL if other is not state])
            await harness.finish(state, unique=key)
            assert await harness.held_by(key) is None

    async def test_a_window_counts_from_the_end_of_the_job(self, harness: Harness) -> None:
        key = unique(final_states=[JobState.COMPLETED], window_s=600)
        lease = await harness.run(unique=key)
        await harness.beat(await harness.worker(), ttl_s=10_000)
        await harness.advance(5000)
        await harness.settle(lease, Complete())
        await harness.advance(500)
        assert await harness.held_by(key) == lease.ref
        await harness.advance(200)
        assert await harness.held_by(key) is None

    async def test_a_key_after_its_window_has_one_new_holder(self, harness: Harness) -> None:
        key = unique(final_states=[JobState.COMPLETED], window_s=600)
        await harness.finish(JobState.COMPLETED, unique=key)
        await harness.advance(700)
        holder = await harness.enqueue(unique=key)
        assert (await harness.try_enqueue(new_job(unique=key))).ref == holder
        await harness.advance(7000)
        assert (await harness.try_enqueue(new_job(unique=key))).ref == holder
