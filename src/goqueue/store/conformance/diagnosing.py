"""Why nothing happens: jobs say why they were put off, findings name queues and kinds that no worker takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from goqueue.model.admin import Level
from goqueue.model.job import OnConflict
from goqueue.model.lease import Beat, WorkerInfo
from goqueue.model.outcome import UNKNOWN_KIND, Crash, Release, Retry, Snooze
from goqueue.model.query import EnqueueStatus, Query
from goqueue.store.conformance.harness import BOOM, CRASH_DELAY_S, TTL_S, new_job, unique, worker_id

if TYPE_CHECKING:
    from goqueue.model.admin import Finding
    from goqueue.model.lease import Lease
    from goqueue.store.conformance.harness import Harness

STEP_S = 100 * CRASH_DELAY_S


class DiagnosisCases:
    """Jobs that nobody runs."""

    async def test_a_job_that_was_put_off_says_why_until_its_next_attempt(self, harness: Harness) -> None:
        lease = await harness.run()
        for outcome in (Retry(10, BOOM), Release(), Crash(BOOM)):
            await harness.settle(lease, Snooze(10, "not yet"))
            assert (await harness.record(lease.ref)).reason == "not yet"
            (found,) = (await harness.store.find(Query())).jobs
            assert found.reason == "not yet"
            lease = await self._again(harness)
            assert (await harness.record(lease.ref)).reason is None, "it runs"
            await harness.settle(lease, outcome)
            assert (await harness.record(lease.ref)).reason is None, outcome
            lease = await self._again(harness)
        await harness.settle(lease, Snooze(10, "not yet"))
        await harness.lose(await self._again(harness))
        assert (await harness.record(lease.ref)).reason is None, "its worker was lost"

    async def test_a_snooze_without_words_has_no_reason(self, harness: Harness) -> None:
        lease = await harness.run()
        await harness.settle(lease, Snooze(10))
        assert (await harness.record(lease.ref)).reason is None

    async def test_a_replaced_job_does_not_say_why_the_one_before_was_put_off(self, harness: Harness) -> None:
        key = unique(on_conflict=OnConflict.REPLACE)
        lease = await harness.run(unique=key)
        await harness.settle(lease, Snooze(10, "not yet"))
        answer = await harness.try_enqueue(new_job(unique=key))
        assert answer.status is EnqueueStatus.REPLACED
        assert (await harness.record(lease.ref)).reason is None

    async def _again(self, harness: Harness) -> Lease:
        await harness.advance(STEP_S)
        (lease,) = await harness.claim()
        return lease

    # -- findings ---------------------------------------------------------------------------------------

    async def test_a_queue_without_a_worker_is_named(self, harness: Harness) -> None:
        await harness.worker()  # of the default queue
        await harness.enqueue()
        await harness.enqueue(queue="later", delay_s=10 * TTL_S)
        assert (await self._found(harness, "unserved_queues")).level is Level.OK
        for _ in range(3):
            await harness.enqueue(queue="mail")
        await harness.enqueue(queue="mail", delay_s=10 * TTL_S)
        found = await self._found(harness, "unserved_queues")
        assert found.level is Level.WARNING
        assert "default/mail" in found.text
        assert "3 ready" in found.text
        assert "/default" not in found.text
        assert "/later" not in found.text
        assert found.do

    async def test_workers_that_drain_or_are_gone_or_of_another_tenant_take_no_jobs(self, harness: Harness) -> None:
        await harness.enqueue()
        info = WorkerInfo(id=worker_id(), queues=("default",))
        for beat in (
            Beat(worker=info, ttl_s=TTL_S, draining=True),
            Beat(worker=info, ttl_s=0),
            Beat(worker=WorkerInfo(id=worker_id(), queues=("default",)), ttl_s=TTL_S, tenant="acme"),
        ):
            await harness.store.extend(beat)
            assert "default/default" in (await self._found(harness, "unserved_queues")).text, beat
        await harness.worker()
        assert (await self._found(harness, "unserved_queues")).level is Level.OK

    async def test_a_paused_queue_is_a_finding_of_its_own(self, harness: Harness) -> None:
        await harness.store.pause("default", "mail", True)
        assert (await self._found(harness, "pauses")).level is Level.OK, "nothing waits there"
        await harness.enqueue(queue="mail")
        found = await self._found(harness, "pauses")
        assert found.level is Level.WARNING
        assert "default/mail" in found.text
        assert (await self._found(harness, "unserved_queues")).level is Level.OK

    async def test_kinds_that_no_worker_has_are_named(self, harness: Harness) -> None:
        for kind, reason in (("resize", f"{UNKNOWN_KIND} 'resize' here"), ("poll", "not yet")):
            lease = await harness.run(kind=kind)
            await harness.settle(lease, Snooze(60, reason))
        found = await self._found(harness, "unknown_kinds")
        assert found.level is Level.WARNING
        assert "resize" in found.text
        assert "poll" not in found.text
        await harness.advance(TTL_S)
        assert "resize" in (await self._found(harness, "unknown_kinds")).text, "due, and still not run"
        await harness.claim()
        assert (await self._found(harness, "unknown_kinds")).level is Level.OK, "it runs"

    async def _found(self, harness: Harness, check: str) -> Finding:
        (found,) = [finding for finding in await harness.store.diagnose() if finding.check == check]
        return found
