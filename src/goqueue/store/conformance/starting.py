"""Keys that are held until their job is started: free with its claim, and never a conflict afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from goqueue.model.admin import Duty
from goqueue.model.job import OnConflict
from goqueue.model.outcome import Complete, Crash, Dead, Release, Retry, Snooze
from goqueue.model.query import CancelJobs, ChangeStatus, DeleteJobs, EnqueueStatus, RetryJobs
from goqueue.model.state import JobState
from goqueue.store.conformance.harness import BOOM, new_job, unique

if TYPE_CHECKING:
    from goqueue.store.conformance.harness import Harness

KEY: Final = unique(until_started=True)


class StartCases:
    """`Unique.until_started`."""

    async def test_a_key_until_started_is_held_while_the_job_waits(self, harness: Harness) -> None:
        ref = await harness.enqueue(unique=KEY, delay_s=60)
        assert await harness.held_by(KEY) == ref
        await harness.advance(100)
        assert await harness.held_by(KEY) == ref
        assert (await harness.record(ref)).unique_key == KEY.key

    async def test_the_claim_frees_it(self, harness: Harness) -> None:
        lease = await harness.run(unique=KEY)
        assert await harness.held_by(KEY) is None
        assert (await harness.record(lease.ref)).unique_key == KEY.key

    async def test_an_enqueue_while_the_job_runs_makes_another(self, harness: Harness) -> None:
        lease = await harness.run(unique=KEY)
        answers = await harness.store.enqueue([new_job(unique=KEY) for _ in range(3)])
        assert [a.status for a in answers] == [EnqueueStatus.INSERTED] + [EnqueueStatus.DUPLICATE] * 2
        assert {answer.ref for answer in answers} == {answers[0].ref}
        assert await harness.held_by(KEY) == answers[0].ref
        assert (await harness.state(lease.ref)) is JobState.RUNNING

    async def test_every_claim_of_a_batch_frees_its_own_key(self, harness: Harness) -> None:
        keys = [unique(f"k{n}", until_started=n % 2 == 0) for n in range(6)]
        jobs = [new_job(unique=key) for key in keys]
        await harness.store.enqueue(jobs)
        assert len(await harness.claim()) == 6
        holders = [await harness.held_by(key) for key in keys]
        assert holders == [None if n % 2 == 0 else job.ref for n, job in enumerate(jobs)]

    async def test_no_way_back_to_waiting_takes_it_again(self, harness: Harness) -> None:
        for outcome in (Retry(0, BOOM), Snooze(0), Release(), Crash(BOOM)):
            lease = await harness.run(unique=KEY)
            await harness.settle(lease, outcome)
            assert await harness.held_by(KEY) is None
            await harness.change(lease.ref, CancelJobs())

    async def test_upkeep_of_a_job_whose_key_another_one_holds_is_no_conflict(self, harness: Harness) -> None:
        lease = await harness.run(unique=KEY)
        holder = await harness.enqueue(unique=KEY, delay_s=1e6)
        await harness.lose(lease)
        assert await harness.state(lease.ref) is JobState.RETRYING
        assert await harness.held_by(KEY) == holder
        await harness.change(lease.ref, RetryJobs())
        (again,) = await harness.claim()
        await harness.settle(again, Retry(0, BOOM))
        (last,) = await harness.claim()
        assert last.ref == lease.ref
        await harness.settle(last, Complete())
        assert await harness.held_by(KEY) == holder

    async def test_no_end_of_the_started_job_frees_the_key_of_the_next(self, harness: Harness) -> None:
        for number, end in enumerate(("complete", "dead", "cancel", "crash", "expire", "delete")):
            queue = f"q{number}"
            lease = await harness.run(unique=KEY, queue=queue, deadline_s=1e4, max_crashes=1)
            holder = await harness.enqueue(unique=KEY, queue=queue, delay_s=1e6)
            match end:
                case "complete":
                    await harness.settle(lease, Complete())
                case "dead":
                    await harness.settle(lease, Dead(BOOM))
                case "crash":
                    await harness.settle(lease, Crash(BOOM))
                case _:
                    await harness.settle(lease, Retry(1e5, BOOM))
            if end == "cancel":
                await harness.change(lease.ref, CancelJobs())
            elif end == "delete":
                await harness.change(lease.ref, DeleteJobs())
            elif end == "expire":
                await harness.advance(2e4)
                assert await harness.sweep_all(Duty.EXPIRED) == 1
            record = await harness.find(lease.ref)
            assert record is None or record.finished_at is not None, end
            assert await harness.held_by(KEY, queue=queue) == holder, end

    async def test_a_blind_retry_of_the_enqueue_takes_no_key(self, harness: Harness) -> None:
        job = new_job(unique=KEY)
        await harness.try_enqueue(job)
        (lease,) = await harness.claim()
        assert (await harness.try_enqueue(job, retry=True)).status is EnqueueStatus.EXISTS
        assert await harness.held_by(KEY) is None
        await harness.settle(lease, Complete())
        assert (await harness.try_enqueue(job, retry=True)).status is EnqueueStatus.EXISTS
        assert await harness.held_by(KEY) is None

    async def test_a_manual_retry_of_the_final_job_takes_it_again_until_it_starts(self, harness: Harness) -> None:
        lease = await harness.run(unique=KEY)
        await harness.settle(lease, Dead(BOOM))
        assert await harness.change(lease.ref, RetryJobs()) is ChangeStatus.CHANGED
        assert await harness.held_by(KEY) == lease.ref
        await harness.claim()
        assert await harness.held_by(KEY) is None

    async def test_a_manual_retry_is_refused_while_the_next_job_waits(self, harness: Harness) -> None:
        lease = await harness.run(unique=KEY)
        holder = await harness.enqueue(unique=KEY)
        await harness.settle(lease, Dead(BOOM))
        assert await harness.change(lease.ref, RetryJobs()) is ChangeStatus.KEY_HELD
        assert (await harness.state(lease.ref), await harness.held_by(KEY)) == (JobState.DEAD, holder)
        await harness.claim()
        assert await harness.change(lease.ref, RetryJobs()) is ChangeStatus.CHANGED
        assert await harness.held_by(KEY) == lease.ref

    async def test_a_manual_retry_of_the_waiting_job_takes_no_key(self, harness: Harness) -> None:
        lease = await harness.run(unique=KEY)
        await harness.settle(lease, Retry(600, BOOM))
        assert await harness.change(lease.ref, RetryJobs()) is ChangeStatus.CHANGED
        assert await harness.held_by(KEY) is None

    async def test_replace_meets_only_a_job_that_has_not_started(self, harness: Harness) -> None:
        replace = unique(until_started=True, on_conflict=OnConflict.REPLACE)
        ref = await harness.enqueue(unique=replace)
        assert (await harness.try_enqueue(new_job(unique=replace))).status is EnqueueStatus.REPLACED
        assert [lease.ref for lease in await harness.claim()] == [ref]
        assert (await harness.try_enqueue(new_job(unique=replace))).status is EnqueueStatus.INSERTED

    async def test_the_holder_says_how_long_it_holds_not_who_replaces_it(self, harness: Harness) -> None:
        await harness.enqueue(unique=KEY)
        await harness.try_enqueue(new_job(unique=unique(on_conflict=OnConflict.REPLACE)))
        await harness.claim()
        assert await harness.held_by() is None
        held = await harness.run(unique=unique("other"))
        newer = new_job(unique=unique("other", until_started=True, on_conflict=OnConflict.REPLACE))
        assert (await harness.try_enqueue(newer)).status is EnqueueStatus.DUPLICATE
        assert await harness.held_by(unique("other")) == held.ref
