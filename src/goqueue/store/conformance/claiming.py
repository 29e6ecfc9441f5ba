"""Claim: who gets which jobs, in which order, and what a claim counts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from goqueue.model.lease import Want
from goqueue.model.outcome import Answer, Complete, Release, Retry, Settlement
from goqueue.model.query import CancelJobs
from goqueue.model.state import JobState
from goqueue.store.conformance.harness import BOOM, TTL_S, json_of, near, new_job, worker_id

if TYPE_CHECKING:
    from goqueue.store.conformance.harness import Harness


class ClaimCases:
    """Leases."""

    async def test_a_lease_has_all_that_a_worker_needs(self, harness: Harness) -> None:
        ref = await harness.enqueue(
            kind="mail.send",
            args=b'{"to":"ada@example.com"}',
            queue="mail",
            priority=3,
            max_attempts=7,
            timeout_s=2.5,
            tags=("a", "b"),
            meta={"k": "v"},
        )
        record = await harness.record(ref)
        (lease,) = await harness.claim(queues=["mail"])
        assert (lease.ref, lease.kind, json_of(lease.args)) == (ref, "mail.send", {"to": "ada@example.com"})
        assert (lease.attempt, lease.max_attempts, lease.crashes, lease.priority) == (1, 7, 0, 3)
        assert (lease.timeout_s, lease.tags, json_of(lease.meta)) == (2.5, ("a", "b"), {"k": "v"})
        assert (lease.created_at, lease.run_at) == (record.created_at, record.run_at)
        assert lease.fence >= 1

    async def test_a_job_without_meta_and_tags_has_none_in_its_lease(self, harness: Harness) -> None:
        lease = await harness.run()
        assert (lease.meta, lease.tags, lease.timeout_s, json_of(lease.args)) == (None, (), None, {})

    async def test_a_claim_is_seen_in_the_record(self, harness: Harness) -> None:
        ref = await harness.enqueue()
        worker = await harness.worker()
        await harness.advance(30)
        (lease,) = await harness.claim(worker)
        record = await harness.record(ref)
        assert (record.state, record.attempt, record.worker_id) == (JobState.RUNNING, 1, worker)
        assert near(record.attempted_at, record.created_at, 30)
        assert 25 < lease.waited_s < 35

    async def test_a_running_job_is_not_claimed_again(self, harness: Harness) -> None:
        await harness.run()
        assert await harness.claim() == []

    async def test_each_claim_raises_fence_and_attempt(self, harness: Harness) -> None:
        lease = await harness.run()
        await harness.settle(lease, Retry(0, BOOM))
        (again,) = await harness.claim()
        assert (again.ref, again.attempt) == (lease.ref, 2)
        assert again.fence == lease.fence + 1

    async def test_a_released_job_is_claimed_under_a_new_fence_and_the_same_attempt(self, harness: Harness) -> None:
        lease = await harness.run()
        await harness.settle(lease, Release())
        (again,) = await harness.claim()
        assert (again.attempt, again.fence) == (1, lease.fence + 1)

    async def test_no_more_jobs_than_wanted_are_leased(self, harness: Harness) -> None:
        for queue in ("a", "b"):
            for _ in range(3):
                await harness.enqueue(queue=queue)
        assert len(await harness.claim(queues=["a", "b"], total=4)) == 4
        assert len(await harness.claim(queues=["a", "b"], total=4)) == 2

    async def test_a_claim_of_nothing_leases_nothing(self, harness: Harness) -> None:
        await harness.enqueue()
        assert await harness.claim(total=0) == []
        assert await harness.claim(queues=[]) == []

    async def test_a_job_is_not_claimed_before_it_is_due(self, harness: Harness) -> None:
        ref = await harness.enqueue(delay_s=86_400)
        await harness.advance(86_300)
        assert await harness.claim() == []
        await harness.advance(200)
        assert [lease.ref for lease in await harness.claim()] == [ref]

    # -- order ----------------------------------------------------------------------------------------

    async def test_lower_priority_numbers_come_first(self, harness: Harness) -> None:
        refs = {priority: await harness.enqueue(priority=priority) for priority in (5, 0, 9, 4)}
        await harness.advance(10)
        refs[1] = await harness.enqueue(priority=1)
        leases = await harness.claim()
        assert [lease.ref for lease in leases] == [refs[priority] for priority in (0, 1, 4, 5, 9)]

    async def test_of_one_priority_the_earliest_due_comes_first(self, harness: Harness) -> None:
        late = await harness.enqueue(delay_s=300)
        soon = await harness.enqueue(delay_s=100)
        now = await harness.enqueue()
        await harness.advance(400)
        last = await harness.enqueue()
        assert [lease.ref for lease in await harness.claim()] == [now, soon, late, last]

    async def test_jobs_that_are_due_together_come_by_id(self, harness: Harness) -> None:
        jobs = [new_job() for _ in range(20)]
        await harness.store.enqueue(jobs)
        leases = await harness.claim(total=20)
        assert [lease.id for lease in leases] == [job.id for job in jobs]

    async def test_queues_are_served_in_the_wanted_order(self, harness: Harness) -> None:
        first = await harness.enqueue(queue="a", priority=9)
        second = await harness.enqueue(queue="b", priority=0)
        worker = await harness.worker()
        (lease,) = await harness.claim(worker, queues=["b", "a"], total=1)
        assert lease.ref == second
        third = await harness.enqueue(queue="b", priority=0)
        leases = await harness.claim(worker, queues=["a", "b"])
        assert [lease.ref for lease in leases] == [first, third]

    async def test_queues_that_are_not_wanted_are_left(self, harness: Harness) -> None:
        await harness.enqueue(queue="a")
        assert await harness.claim(queues=["b", "A", ""]) == []
        assert len(await harness.claim(queues=["a"])) == 1

    async def test_every_group_of_a_queue_is_served(self, harness: Harness) -> None:
        refs = {await harness.enqueue(group_key=group) for group in ("", "x", "y", "x")}
        assert {lease.ref for lease in await harness.claim()} == refs

    # -- who may claim --------------------------------------------------------------------------------

    async def test_a_worker_that_never_beat_gets_nothing(self, harness: Harness) -> None:
        await harness.enqueue()
        assert await harness.claim(worker_id()) == []

    async def test_a_worker_whose_row_has_expired_gets_nothing_until_it_beats(self, harness: Harness) -> None:
        worker = await harness.worker()
        await harness.enqueue()
        await harness.advance(TTL_S + 10)
        assert await harness.claim(worker) == []
        await harness.beat(worker)
        assert len(await harness.claim(worker)) == 1

    async def test_a_worker_that_took_its_leave_gets_nothing(self, harness: Harness) -> None:
        worker = await harness.worker()
        await harness.beat(worker, ttl_s=0)
        await harness.enqueue()
        assert await harness.claim(worker) == []

    async def test_tenants_do_not_get_each_others_jobs(self, harness: Harness) -> None:
        ref = await harness.enqueue(tenant="acme")
        assert await harness.claim() == []
        assert [lease.ref for lease in await harness.claim(tenant="acme")] == [ref]

    async def test_a_paused_queue_gives_nothing_until_it_is_resumed(self, harness: Harness) -> None:
        worker = await harness.worker()
        paused = await harness.enqueue(queue="a")
        other = await harness.enqueue(queue="b")
        await harness.store.pause("default", "a", True)
        assert [lease.ref for lease in await harness.claim(worker, queues=["a", "b"])] == [other]
        await harness.store.pause("default", "a", False)
        assert [lease.ref for lease in await harness.claim(worker, queues=["a", "b"])] == [paused]

    async def test_a_pause_counts_for_its_tenant_only(self, harness: Harness) -> None:
        await harness.enqueue()
        await harness.store.pause("acme", "default", True)
        assert len(await harness.claim()) == 1

    async def test_pauses_elsewhere_leave_the_order_as_it_is(self, harness: Harness) -> None:
        await harness.store.pause("default", "c", True)
        await harness.store.pause("acme", "a", True)
        worker = await harness.worker()
        for priority in (9, 7, 5, 3, 0):
            for queue in ("b", "c", "a"):
                await harness.enqueue(queue=queue, priority=priority)
        leases = [lease for _ in range(11) for lease in await harness.claim(worker, queues=("a", "c", "b"), total=1)]
        order = [(lease.queue, lease.priority) for lease in leases]
        assert order == [(queue, priority) for queue in ("a", "b") for priority in (0, 3, 5, 7, 9)]

    async def test_a_cancelled_job_is_not_claimed(self, harness: Harness) -> None:
        await harness.change(await harness.enqueue(), CancelJobs())
        assert await harness.claim() == []

    async def test_concurrent_claims_share_the_jobs_and_repeat_none(self, harness: Harness) -> None:
        refs = [await harness.enqueue() for _ in range(40)]
        workers = [await harness.worker() for _ in range(8)]
        claims = await asyncio.gather(*(harness.claim(worker, total=5) for worker in workers))
        leased = [lease.ref for leases in claims for lease in leases]
        assert len(leased) == len(set(leased))
        rest = [lease.ref for lease in await harness.claim(total=40)]
        assert sorted(leased + rest) == sorted(refs)

    # -- settle and claim in one trip -------------------------------------------------------------------

    async def test_outcomes_go_along_with_a_claim(self, harness: Harness) -> None:
        worker = await harness.worker()
        done = await harness.run(worker)
        waiting = await harness.enqueue()
        stale = Settlement(done.ref, done.fence + 7, Complete())
        claimed = await harness.store.claim(
            Want(worker_id=worker, queues=("default",), total=5),
            [stale, Settlement(done.ref, done.fence, Complete(b"1"))],
        )
        assert claimed.settled == (Answer.LOST, Answer.APPLIED)
        assert [lease.ref for lease in claimed.leases] == [waiting]
        assert await harness.state(done.ref) is JobState.COMPLETED

    async def test_outcomes_count_although_the_worker_gets_nothing(self, harness: Harness) -> None:
        worker = await harness.worker()
        done = await harness.run(worker)
        await harness.enqueue()
        await harness.beat(worker, ttl_s=0)
        claimed = await harness.store.claim(
            Want(worker_id=worker, queues=("default",), total=5), [Settlement(done.ref, done.fence, Complete())]
        )
        assert (claimed.settled, claimed.leases) == ((Answer.APPLIED,), ())
