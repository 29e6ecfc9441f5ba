"""Get, find, count, history."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from goqueue.model.job import JobRef
from goqueue.model.outcome import Complete, Retry
from goqueue.model.query import Filter, Query, RetryJobs, Selection
from goqueue.model.state import JobState
from goqueue.store.conformance.harness import BOOM, new_id, new_job

if TYPE_CHECKING:
    from goqueue.store.conformance.harness import Harness


async def _all(harness: Harness, filter: Filter, page_size: int = 100) -> list[str]:
    """Walk all pages of a filter; return the ids."""
    ids: list[str] = []
    query = Query(filter=filter, page_size=page_size)
    for _ in range(200):
        page = await harness.store.find(query)
        assert len(page.jobs) <= page_size
        ids += [job.id for job in page.jobs]
        if page.next_before_id is None:
            return ids
        query = msgspec.structs.replace(query, before_id=page.next_before_id)
    raise AssertionError("the pages never end")


async def _one_of_each_state(harness: Harness) -> dict[JobState, str]:
    lease = await harness.run()
    await harness.settle(lease, Retry(600, BOOM))
    refs = {
        JobState.RETRYING: lease.ref,
        JobState.COMPLETED: await harness.finish(JobState.COMPLETED),
        JobState.DEAD: await harness.finish(JobState.DEAD),
        JobState.CANCELLED: await harness.finish(JobState.CANCELLED),
        JobState.RUNNING: (await harness.run()).ref,
        JobState.SCHEDULED: await harness.enqueue(delay_s=600),
        JobState.READY: await harness.enqueue(),
    }
    return {state: ref.id for state, ref in refs.items()}


class QueryCases:
    """What a store can be asked."""

    async def test_get_answers_in_order_with_gaps(self, harness: Harness) -> None:
        live = await harness.enqueue()
        done = await harness.finish(JobState.COMPLETED, queue="other")
        records = await harness.store.get("default", [done.id, new_id(), "no-uuid", live.id])
        assert [record and (record.id, record.state) for record in records] == [
            (done.id, JobState.COMPLETED),
            None,
            None,
            (live.id, JobState.READY),
        ]
        assert await harness.store.get("default", []) == []

    async def test_history_has_only_final_jobs(self, harness: Harness) -> None:
        lease = await harness.run()
        live = await harness.enqueue()
        refs = [live, lease.ref, JobRef("default", "default", new_id()), JobRef("default", "default", "no-uuid")]
        assert await harness.store.history(refs) == [None] * 4
        await harness.settle(lease, Complete(b"1"))
        records = await harness.store.history(refs)
        assert [record and record.id for record in records] == [None, lease.id, None, None]
        assert records[1] == await harness.record(lease.ref)
        assert await harness.store.history([]) == []

    async def test_tenants_do_not_see_each_others_jobs(self, harness: Harness) -> None:
        live = await harness.enqueue(tenant="acme")
        done = await harness.finish(JobState.DEAD, tenant="acme", queue="other")
        assert await harness.store.get("default", [live.id, done.id]) == [None, None]
        assert await harness.store.history([JobRef("default", "other", done.id)]) == [None]
        assert await _all(harness, Filter()) == []
        assert await harness.store.count(Filter()) == []
        assert await _all(harness, Filter(tenant="acme")) == [done.id, live.id]

    # -- find -------------------------------------------------------------------------------------------

    async def test_find_lists_live_and_final_jobs_newest_first(self, harness: Harness) -> None:
        ids = list((await _one_of_each_state(harness)).values())
        assert await _all(harness, Filter()) == sorted(ids, reverse=True)

    async def test_pages_neither_skip_nor_repeat(self, harness: Harness) -> None:
        ids = [(await harness.enqueue(delay_s=60)).id for _ in range(5)]
        for _ in range(6):
            ids += [(await harness.enqueue(queue="x")).id, (await harness.finish(JobState.CANCELLED, queue="y")).id]
        for page_size in (1, 2, 3, 17, 500):
            assert await _all(harness, Filter(), page_size) == sorted(ids, reverse=True)

    async def test_before_id_is_exclusive(self, harness: Harness) -> None:
        first, second = await harness.enqueue(), await harness.enqueue()
        page = await harness.store.find(Query(before_id=second.id))
        assert [job.id for job in page.jobs] == [first.id]
        assert (await harness.store.find(Query(before_id=first.id))).jobs == ()

    async def test_find_by_state(self, harness: Harness) -> None:
        by_state = await _one_of_each_state(harness)
        for state, job_id in by_state.items():
            assert await _all(harness, Filter(states=(state,))) == [job_id], state
            page = await harness.store.find(Query(filter=Filter(states=(state,))))
            assert {job.state for job in page.jobs} <= {state}
        pair = (JobState.READY, JobState.DEAD)
        assert await _all(harness, Filter(states=pair)) == sorted((by_state[s] for s in pair), reverse=True)
        assert await _all(harness, Filter(states=(JobState.BLOCKED,))) == []

    async def test_find_by_queue_kind_and_tags(self, harness: Harness) -> None:
        a = (await harness.finish(JobState.COMPLETED, queue="a", kind="x", tags=("t", "u"))).id
        b = (await harness.enqueue(queue="b", kind="x", tags=("t",))).id
        c = (await harness.enqueue(queue="c", kind="y")).id
        assert await _all(harness, Filter(queues=("a", "c"))) == [c, a]
        assert await _all(harness, Filter(kinds=("x",))) == [b, a]
        assert await _all(harness, Filter(kinds=("x", "y"), queues=("b", "c"))) == [c, b]
        assert await _all(harness, Filter(tags=("t",))) == [b, a]
        assert await _all(harness, Filter(tags=("t", "u"))) == [a]
        assert await _all(harness, Filter(tags=("u",), queues=("b",))) == []
        assert await _all(harness, Filter(kinds=("X",))) == []

    async def test_find_by_id(self, harness: Harness) -> None:
        live, done = await harness.enqueue(delay_s=60), await harness.finish(JobState.COMPLETED)
        await harness.enqueue()
        assert await _all(harness, Filter(ids=(live.id, done.id, new_id(), "no-uuid"))) == [done.id, live.id]
        assert await _all(harness, Filter(ids=(live.id,), states=(JobState.READY,))) == []

    async def test_find_by_time_is_half_open(self, harness: Harness) -> None:
        early = await harness.finish(JobState.COMPLETED)
        await harness.advance(100)
        middle = await harness.enqueue()
        await harness.advance(100)
        late = await harness.enqueue()
        at = (await harness.record(middle)).created_at
        assert await _all(harness, Filter(created_after=at)) == [late.id, middle.id]
        assert await _all(harness, Filter(created_before=at)) == [early.id]
        end = (await harness.record(late)).created_at
        assert await _all(harness, Filter(created_after=at, created_before=end)) == [middle.id]

    async def test_find_by_the_end_is_half_open_and_for_final_jobs_only(self, harness: Harness) -> None:
        early = await harness.finish(JobState.DEAD)
        await harness.advance(100)
        middle = await harness.finish(JobState.COMPLETED)
        await harness.advance(100)
        late = await harness.finish(JobState.DEAD)
        await harness.enqueue(delay_s=60)
        at, end = [(await harness.record(ref)).finished_at for ref in (middle, late)]
        assert await _all(harness, Filter(finished_after=at)) == [late.id, middle.id]
        assert await _all(harness, Filter(finished_before=at)) == [early.id]
        assert await _all(harness, Filter(finished_after=at, finished_before=end)) == [middle.id]
        assert await _all(harness, Filter(finished_before=end, states=(JobState.DEAD,))) == [early.id]
        assert await _all(harness, Filter(finished_after=at, states=(JobState.DEAD, JobState.SCHEDULED))) == [late.id]
        # A job that is retried has not finished any more.
        await harness.store.change(Selection("default", (early.id,)), RetryJobs())
        assert await _all(harness, Filter(finished_before=at)) == []

    async def test_found_jobs_are_whole(self, harness: Harness) -> None:
        await harness.finish(JobState.DEAD, tags=("t",), meta={"a": "b"})
        await harness.enqueue(timeout_s=3.0, priority=0)
        for job in (await harness.store.find(Query())).jobs:
            assert job == await harness.record(job.ref)

    # -- count ------------------------------------------------------------------------------------------

    async def test_counts_are_of_jobs_that_are_not_final(self, harness: Harness) -> None:
        await _one_of_each_state(harness)
        counts = {(c.queue, c.state): c.count for c in await harness.store.count(Filter())}
        assert counts == {
            ("default", state): 1 for state in (JobState.READY, JobState.RETRYING, JobState.RUNNING, JobState.SCHEDULED)
        }

    async def test_counts_follow_the_clock(self, harness: Harness) -> None:
        await harness.store.enqueue([new_job(delay_s=600) for _ in range(3)])
        assert [(c.state, c.count) for c in await harness.store.count(Filter())] == [(JobState.SCHEDULED, 3)]
        await harness.advance(700)
        assert [(c.state, c.count) for c in await harness.store.count(Filter())] == [(JobState.READY, 3)]

    async def test_counts_can_be_filtered(self, harness: Harness) -> None:
        for queue, delay_s in (("a", 0), ("a", 600), ("b", 0), ("b", 0), ("c", 0)):
            await harness.enqueue(queue=queue, delay_s=float(delay_s))
        counts = await harness.store.count(Filter(queues=("a", "b"), states=(JobState.READY,)))
        assert {(c.queue, c.state, c.count, c.approximate) for c in counts} == {
            ("a", JobState.READY, 1, False),
            ("b", JobState.READY, 2, False),
        }
