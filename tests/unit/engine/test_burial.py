"""What becomes of the leases of a dead worker process, over a store that the tests spoil."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from goqueue.engine.burial import BUSY_TRIES_MAX, WORKER_DIED, Burial, cause_of_death
from goqueue.engine.journal import Began
from goqueue.model import limits
from goqueue.model.errors import StoreUnavailable
from goqueue.model.job import JobRef
from goqueue.model.lease import Beat, Beaten, Held, WorkerInfo
from goqueue.model.outcome import Answer, Crash, Dead, Outcome, Release, Retry, Settlement
from goqueue.settings import WorkerSettings

Key = tuple[str, int]


class Cemetery:
    """A store with what a dead worker holds, which tells of it in pieces."""

    def __init__(self, held: int) -> None:
        self.running: dict[Key, Held] = {}
        self.locked: set[Key] = set()
        self.outcomes: dict[Key, list[Outcome]] = {}
        self.beats: list[Beat] = []
        self.failures = 0
        self.late: list[Held] = []
        """What a claim that was still on its way brings in before the leave."""
        for number in range(held):
            self.hold(f"job-{number}", number + 1)

    def hold(self, id: str, fence: int) -> Key:
        self.running[id, fence] = Held(JobRef("default", "default", id), fence)
        return id, fence

    async def extend(self, beat: Beat) -> Beaten:
        self.weather()
        self.beats.append(beat)
        if beat.ttl_s == 0:
            for one in self.late:
                self.hold(one.ref.id, one.fence)
        named = {(one.ref.id, one.fence) for one in beat.held}
        strays = [one for key, one in self.running.items() if key not in named]
        return Beaten(strays=tuple(strays[: limits.CLAIM_MAX]))

    async def settle(self, outcomes: Sequence[Settlement]) -> list[Answer]:
        self.weather()
        assert len(outcomes) <= limits.SETTLE_MAX
        return [self.decide((one.ref.id, one.fence), one.outcome) for one in outcomes]

    def decide(self, key: Key, outcome: Outcome) -> Answer:
        if key in self.locked:
            return Answer.BUSY
        if key not in self.running:
            return Answer.LOST
        del self.running[key]
        self.outcomes.setdefault(key, []).append(outcome)
        return Answer.APPLIED

    def weather(self) -> None:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("down")

    def burial(self, *started: Key, lease_s: float = 30.0, apart: dict[Key, Began] | None = None) -> Burial:
        return Burial(
            WorkerInfo(id="the dead", pid=123),
            dict.fromkeys(started, Began.HERE) | (apart or {}),
            "killed by SIGSEGV",
            WorkerSettings(lease_s=lease_s),
            tenant="default",
            extend=self.extend,
            settle=self.settle,
        )


async def test_more_than_the_store_tells_at_a_time_is_settled_in_pieces() -> None:
    store = Cemetery(limits.CLAIM_MAX * 3 + 7)
    started = list(store.running)[:50]
    stale = [("job-1", 1), ("settled long ago", 3)]  # the right job under an older fence, and one that is no more
    burial = store.burial(*started, *stale)
    assert await burial.perform()
    assert store.running == {}
    assert (burial.crashed, burial.released) == (50, limits.CLAIM_MAX * 3 + 7 - 50)
    for key, outcomes in store.outcomes.items():
        (outcome,) = outcomes
        assert isinstance(outcome, Crash if key in started else Release)
    (crash,) = store.outcomes[started[0]]
    assert isinstance(crash, Crash)
    assert crash.error.type == WORKER_DIED
    assert "killed by SIGSEGV" in crash.error.message
    # While anything is held its lease goes on: a sweep would take all of it for crashed.
    assert [beat.ttl_s for beat in store.beats[:-1]] == [30.0] * (len(store.beats) - 1)
    assert store.beats[-1].ttl_s == 0.0


async def test_an_attempt_in_a_process_of_its_own_is_spent_and_no_crash() -> None:
    store = Cemetery(4)
    here, apart, last, waited = store.running
    burial = store.burial(here, apart={apart: Began.APART, last: Began.APART_LAST})
    assert await burial.perform()
    assert [type(store.outcomes[key][0]) for key in (here, apart, last, waited)] == [Crash, Retry, Dead, Release]
    assert (burial.crashed, burial.released) == (1, 1)
    dead = store.outcomes[last][0]
    assert isinstance(dead, Dead)
    assert (dead.reason, dead.error.type) == ("attempts", WORKER_DIED)


async def test_a_locked_row_is_tried_again_and_in_the_end_left_to_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goqueue.engine.backoff.Backoff.next_s", lambda _: 0.001)
    store = Cemetery(limits.CLAIM_MAX + 3)
    keys = list(store.running)
    store.locked = set(keys[: limits.CLAIM_MAX])  # all that is told first: the others must get their turn
    burial = store.burial(keys[0], keys[-1])
    assert await burial.perform()
    assert set(store.running) == store.locked
    assert [type(one) for one in store.outcomes[keys[-1]]] == [Crash]
    assert (burial.crashed, burial.released) == (1, 2)
    tried = [beat for beat in store.beats if not beat.held]
    assert len(tried) == BUSY_TRIES_MAX + 1  # and the leave
    assert store.beats[-1].ttl_s == 0.0


async def test_it_outlives_a_store_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goqueue.engine.backoff.Backoff.next_s", lambda _: 0.001)
    store = Cemetery(5)
    store.failures = 7
    assert await store.burial().perform()
    assert store.running == {}
    assert store.beats[-1].ttl_s == 0.0


async def test_it_is_given_up_when_the_lease_is_over_anyway() -> None:
    store = Cemetery(5)
    store.failures = 1_000_000
    async with asyncio.timeout(20):
        assert not await store.burial(lease_s=0.5).perform()
    assert len(store.running) == 5


async def test_what_a_claim_brought_in_behind_it_is_given_back() -> None:
    """A claim of the dead process may still have been at the store; after the leave the store refuses such claims."""
    store = Cemetery(1)
    store.late = [Held(JobRef("default", "default", "late"), 9)]
    assert await store.burial().perform()
    assert [type(one) for one in store.outcomes["late", 9]] == [Release]


@pytest.mark.parametrize(
    "code, words",
    [(0, "exit code 0"), (3, "exit code 3"), (-11, "SIGSEGV"), (-9, "memory"), (-6, "SIGABRT"), (-63, "signal 63")],
)
def test_the_cause_of_death_is_named(code: int, words: str) -> None:
    assert words in cause_of_death(code)
