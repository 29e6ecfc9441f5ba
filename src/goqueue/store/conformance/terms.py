"""Terms of office: upkeep asked for by a leader which is none any more does nothing. And what a store finds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from goqueue.model.admin import Duty, Level, Term
from goqueue.model.limits import WORKER_KEPT_S
from goqueue.model.state import JobState
from goqueue.store.conformance.harness import SHORT, SHORT_S, TTL_S

if TYPE_CHECKING:
    from goqueue.store.conformance.harness import Harness

NAME: Final = "upkeep"
LONG_S: Final = 3600.0


async def _elect(harness: Harness, holder: str = "a", ttl_s: float = LONG_S) -> Term:
    term = await harness.store.elect(NAME, holder, ttl_s)
    assert term is not None
    return term


class _Work:
    """Something to do for every duty, and a way to see whether it was done."""

    def __init__(self, harness: Harness) -> None:
        self._harness = harness

    async def prepare(self) -> None:
        harness = self._harness
        self.final = await harness.finish(JobState.COMPLETED, queue=SHORT)
        await harness.store.write("gone", b"1", 0, ttl_s=1.0)
        await harness.advance(SHORT_S * 2)
        self.late = await harness.enqueue(queue="late", deadline_s=1.0)
        worker = await harness.worker()
        self.orphan = (await harness.run(worker, queue="a")).ref
        careless = await harness.worker()
        self.forgotten = (await harness.run(careless, queue="b")).ref
        await harness.advance(TTL_S + 2 * WORKER_KEPT_S)
        await harness.forget_worker(careless)

    async def left(self) -> tuple[JobState, JobState, JobState, int]:
        states = [await self._harness.state(ref) for ref in (self.late, self.orphan, self.forgotten)]
        return states[0], states[1], states[2], len(await self._harness.store.workers("default"))


class TermCases:
    """Upkeep under a term."""

    async def test_the_present_leader_is_served_for_every_duty(self, harness: Harness) -> None:
        work = _Work(harness)
        await work.prepare()
        term = await _elect(harness)
        for duty in (Duty.ORPHANS, Duty.ORPHANS_FULL, Duty.EXPIRED, Duty.WORKERS, Duty.HISTORY):
            swept = await harness.store.sweep(duty, 100, term)
            assert not swept.deposed, duty
            assert swept.count > 0 or duty is Duty.HISTORY, duty
        assert await work.left() == (JobState.DEAD, JobState.RETRYING, JobState.RETRYING, 0)

    async def test_a_term_with_a_successor_is_refused_for_every_duty(self, harness: Harness) -> None:
        work = _Work(harness)
        await work.prepare()
        old = await _elect(harness)
        await harness.store.elect(NAME, "a", 0)
        new = await _elect(harness, "b")
        await self._nothing_is_done(harness, work, old)
        assert (await harness.store.sweep(Duty.ORPHANS, 100, new)).count == 1

    async def test_a_term_that_has_lapsed_is_refused_for_every_duty(self, harness: Harness) -> None:
        work = _Work(harness)
        await work.prepare()
        term = await _elect(harness)
        await harness.advance(LONG_S + 60)
        await self._nothing_is_done(harness, work, term)

    async def test_a_term_that_was_resigned_is_refused(self, harness: Harness) -> None:
        work = _Work(harness)
        await work.prepare()
        term = await _elect(harness)
        await harness.store.elect(NAME, "a", 0)
        await self._nothing_is_done(harness, work, term)

    async def test_a_term_that_was_renewed_is_served(self, harness: Harness) -> None:
        term = await _elect(harness)
        await harness.advance(LONG_S - 60)
        await _elect(harness)
        await harness.advance(600)
        assert not (await harness.store.sweep(Duty.ORPHANS, 100, term)).deposed

    async def test_a_leader_that_comes_back_gets_a_term_that_its_old_one_is_not(self, harness: Harness) -> None:
        old = await _elect(harness, "a")
        await harness.store.elect(NAME, "a", 0)
        await _elect(harness, "b")
        await harness.store.elect(NAME, "b", 0)
        new = await _elect(harness, "a")
        assert (await harness.store.sweep(Duty.ORPHANS, 100, old)).deposed
        assert not (await harness.store.sweep(Duty.ORPHANS, 100, new)).deposed

    async def test_a_term_that_has_lapsed_stays_refused_when_its_leader_comes_back(self, harness: Harness) -> None:
        old = await _elect(harness)
        await harness.advance(LONG_S + 60)
        new = await _elect(harness)
        assert new.number > old.number
        assert (await harness.store.sweep(Duty.ORPHANS, 100, old)).deposed
        assert not (await harness.store.sweep(Duty.ORPHANS, 100, new)).deposed

    async def test_a_term_of_another_office_or_holder_is_refused(self, harness: Harness) -> None:
        term = await _elect(harness)
        await harness.store.elect("other", "b", LONG_S)
        for wrong in (
            msgspec.structs.replace(term, holder="b"),
            msgspec.structs.replace(term, name="other"),
            msgspec.structs.replace(term, name="none"),
            msgspec.structs.replace(term, number=term.number + 1),
        ):
            assert (await harness.store.sweep(Duty.WORKERS, 100, wrong)).deposed, wrong

    async def test_without_a_term_upkeep_is_anybodys(self, harness: Harness) -> None:
        await _elect(harness)
        assert not (await harness.store.sweep(Duty.ORPHANS, 100)).deposed

    async def _nothing_is_done(self, harness: Harness, work: _Work, term: Term) -> None:
        before = await work.left()
        for duty in Duty:
            swept = await harness.store.sweep(duty, 100, term)
            assert (swept.count, swept.more, swept.deposed) == (0, False, True), duty
        assert await work.left() == before
        assert before == (JobState.READY, JobState.RUNNING, JobState.RUNNING, 2)

    # -- findings ---------------------------------------------------------------------------------------

    async def test_findings_say_what_was_seen_and_what_to_do(self, harness: Harness) -> None:
        findings = await harness.store.diagnose()
        assert findings
        assert len({finding.check for finding in findings}) == len(findings)
        for finding in findings:
            assert finding.check.replace("_", "").isalnum(), finding
            assert finding.text, finding
            assert finding.level is Level.OK or finding.do, finding

    async def test_looking_for_findings_changes_nothing(self, harness: Harness) -> None:
        work = _Work(harness)
        await work.prepare()
        before = await work.left()
        await harness.store.diagnose()
        assert await work.left() == before
