"""What becomes of the leases of a dead worker process, over a store that the tests spoil."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import pytest
from structlog.testing import capture_logs

from goqueue.engine import burials as burials_module
from goqueue.engine.burial import BUSY_TRIES_MAX, WORKER_DIED, Burial, cause_of_death
from goqueue.engine.burials import NAMED_MAX, Burials
from goqueue.engine.journal import Began
from goqueue.model import limits
from goqueue.model.errors import InvalidInput, StoreUnavailable
from goqueue.model.job import ErrorInfo, JobRecord, JobRef
from goqueue.model.lease import Beat, Beaten, Held, WorkerInfo
from goqueue.model.outcome import Answer, Complete, Crash, Dead, Outcome, Release, Retry, Settlement
from goqueue.model.state import JobState
from goqueue.settings import WorkerSettings
from tests.unit.engine.faults import DEADLINE_S

Key = tuple[str, int]


class Cemetery:
    """A store with what a dead worker holds, which tells of it in pieces."""

    def __init__(self, held: int) -> None:
        self.running: dict[Key, Held] = {}
        self.locked: set[Key] = set()
        self.outcomes: dict[Key, list[Outcome]] = {}
        self.beats: list[Beat] = []
        self.failures = 0
        self.unstorable: set[Key] = set()
        self.looked_up: list[str] = []
        self.changed = asyncio.Event()
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
        if any(isinstance(one.outcome, Complete) and (one.ref.id, one.fence) in self.unstorable for one in outcomes):
            raise InvalidInput("this cannot be stored")
        return [self.decide((one.ref.id, one.fence), one.outcome) for one in outcomes]

    def decide(self, key: Key, outcome: Outcome) -> Answer:
        if key in self.locked:
            return Answer.BUSY
        if key not in self.running:
            return Answer.LOST
        del self.running[key]
        self.outcomes.setdefault(key, []).append(outcome)
        self.changed.set()
        return Answer.APPLIED

    async def get(self, tenant: str, ids: Sequence[str]) -> list[JobRecord | None]:
        self.looked_up += ids
        crashed = {key[0] for key, (outcome, *_) in self.outcomes.items() if isinstance(outcome, Crash)}
        return [record(id, dead=id in crashed) for id in ids]

    def weather(self) -> None:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("down")

    def burial(
        self,
        *started: Key,
        lease_s: float = 30.0,
        apart: dict[Key, Began] | None = None,
        will: dict[Key, Outcome] | None = None,
    ) -> Burial:
        return Burial(
            WorkerInfo(id="the dead", pid=123),
            dict.fromkeys(started, Began.HERE) | (apart or {}),
            "killed by SIGSEGV",
            WorkerSettings(lease_s=lease_s),
            tenant="default",
            extend=self.extend,
            settle=self.settle,
            will=will,
        )


def record(id: str, *, dead: bool) -> JobRecord:
    now = datetime.now(UTC)
    return JobRecord(
        id=id,
        kind="mail",
        args=msgspec.Raw(b"{}"),
        queue="default",
        priority=5,
        state=JobState.DEAD if dead else JobState.READY,
        attempt=3,
        max_attempts=20,
        crashes=3,
        max_crashes=3,
        run_at=now,
        created_at=now,
        reason="crashed" if dead else None,
    )


async def test_more_than_the_store_tells_at_a_time_is_settled_in_pieces() -> None:
    store = Cemetery(limits.CLAIM_MAX * 3 + 7)
    started = list(store.running)[:50]
    stale = [("job-1", 1), ("settled long ago", 3)]  # the right job under an older fence, and one that is no more
    burial = store.burial(*started, *stale)
    await burial.perform()
    assert store.running == {}
    assert (len(burial.crashed), len(burial.released)) == (50, limits.CLAIM_MAX * 3 + 7 - 50)
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
    await burial.perform()
    assert [type(store.outcomes[key][0]) for key in (here, apart, last, waited)] == [Crash, Retry, Dead, Release]
    assert (burial.crashed, burial.spent, burial.released) == ([here[0]], [apart[0], last[0]], [waited[0]])
    dead = store.outcomes[last][0]
    assert isinstance(dead, Dead)
    assert (dead.reason, dead.error.type) == ("attempts", WORKER_DIED)


async def test_a_locked_row_is_tried_again_and_in_the_end_left_to_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goqueue.engine.backoff.Backoff.next_s", lambda _: 0.001)
    store = Cemetery(limits.CLAIM_MAX + 3)
    keys = list(store.running)
    store.locked = set(keys[: limits.CLAIM_MAX])  # all that is told first: the others must get their turn
    burial = store.burial(keys[0], keys[-1])
    await burial.perform()
    assert set(store.running) == store.locked
    assert [type(one) for one in store.outcomes[keys[-1]]] == [Crash]
    assert (len(burial.crashed), len(burial.released)) == (1, 2)
    tried = [beat for beat in store.beats if not beat.held]
    assert len(tried) == BUSY_TRIES_MAX + 1  # and the leave
    assert store.beats[-1].ttl_s == 0.0


async def test_it_outlives_a_store_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goqueue.engine.backoff.Backoff.next_s", lambda _: 0.001)
    store = Cemetery(5)
    store.failures = 7
    await store.burial().perform()
    assert store.running == {}
    assert store.beats[-1].ttl_s == 0.0


async def test_it_goes_on_beyond_the_lease_until_the_store_is_back() -> None:
    """Otherwise the sweep would count a crash for all of them, also for those that had not started."""
    store = Cemetery(5)
    store.failures = 1_000_000
    lease_s = 0.5
    task = asyncio.create_task(store.burial(next(iter(store.running)), lease_s=lease_s).perform())
    await asyncio.wait([task], timeout=lease_s * 3)
    assert not task.done()
    store.failures = 0
    await asyncio.wait_for(task, DEADLINE_S)
    assert [type(outcome) for (outcome,) in store.outcomes.values()] == [Crash, *[Release] * 4]


async def test_a_long_outage_does_not_fill_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goqueue.engine.backoff.Backoff.next_s", lambda _: 0.001)
    store = Cemetery(1)
    store.failures = 100
    with capture_logs() as logs:
        await store.burial().perform()
    assert 1 <= len([line for line in logs if line["event"] == "bury"]) <= 2


async def test_what_its_worker_had_decided_counts_as_it_was_decided() -> None:
    """Handlers that had come to their end did not crash, although the store has not heard of it."""
    store = Cemetery(4)
    ended, failed, back, ran = store.running
    error = ErrorInfo("ValueError", "no")
    will: dict[Key, Outcome] = {
        ended: Complete(b"7"),
        failed: Retry(5.0, error),
        back: Release(),
        ("gone", 9): Complete(),
    }
    burial = store.burial(ended, failed, back, ran, will=will)
    await burial.perform()
    assert [store.outcomes[key] for key in (ended, failed, back)] == [
        [Complete(b"7")],
        [Retry(5.0, error)],
        [Release()],
    ]
    assert isinstance(store.outcomes[ran][0], Crash)
    assert (burial.stored, burial.released, burial.crashed) == ([ended[0], failed[0]], [back[0]], [ran[0]])


async def test_a_will_that_cannot_be_stored_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goqueue.engine.backoff.Backoff.next_s", lambda _: 0.001)
    store = Cemetery(2)
    bad, other = store.running
    store.unstorable = {bad}
    await asyncio.wait_for(store.burial(bad, will={bad: Complete(b"7")}).perform(), DEADLINE_S)
    assert [type(store.outcomes[key][0]) for key in (bad, other)] == [Crash, Release]


async def test_a_will_that_cannot_be_stored_costs_no_other_job_its_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goqueue.engine.backoff.Backoff.next_s", lambda _: 0.001)
    store = Cemetery(20)
    bad, *others = store.running
    store.unstorable = {bad}
    will: dict[Key, Outcome] = dict.fromkeys(store.running, Complete(b"7"))
    await asyncio.wait_for(store.burial(will=will).perform(), DEADLINE_S)
    assert [store.outcomes[key] for key in others] == [[Complete(b"7")]] * 19
    assert isinstance(store.outcomes[bad][0], Release)


async def test_a_job_for_which_nothing_can_be_stored_is_left_to_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goqueue.engine.backoff.Backoff.next_s", lambda _: 0.001)
    store = Cemetery(20)
    bad = next(iter(store.running))

    async def settle(outcomes: Sequence[Settlement]) -> list[Answer]:
        if bad in {(one.ref.id, one.fence) for one in outcomes}:
            raise TypeError("a bug")
        return [store.decide((one.ref.id, one.fence), one.outcome) for one in outcomes]

    monkeypatch.setattr(store, "settle", settle)
    await asyncio.wait_for(store.burial(*store.running).perform(), DEADLINE_S)
    assert list(store.running) == [bad]
    assert store.beats[-1].ttl_s == 0.0  # its lease does not go on for ever


# -- beside the living ----------------------------------------------------------------------------


async def test_the_log_names_jobs_counts_all_and_says_which_are_dead() -> None:
    store = Cemetery(NAMED_MAX + 20)
    poison, apart = list(store.running)[:2]
    burials = Burials(store.get)
    with capture_logs() as logs:
        burials.begin(store.burial(poison, apart={apart: Began.APART}))
        await burials.close()
    (line,) = [line for line in logs if line["event"] == "bury"]
    assert (line["crashed"], line["spent"], line["released"], line["complete"]) == (1, 1, NAMED_MAX + 18, True)
    assert len(line["jobs"]) == NAMED_MAX
    assert line["jobs"][:2] == [f"crashed mail {poison[0]}", f"spent mail {apart[0]}"]
    assert len(store.looked_up) <= NAMED_MAX  # the others need not be known
    (dead,) = [line for line in logs if line["event"] == "dead"]
    assert (dead["job_id"], dead["reason"], dead["log_level"]) == (poison[0], "crashed", "error")
    assert (dead["crashes"], dead["max_crashes"]) == (3, 3)


async def test_a_look_up_that_fails_spoils_no_burial() -> None:
    store = Cemetery(1)

    async def get(tenant: str, ids: Sequence[str]) -> list[JobRecord | None]:
        raise StoreUnavailable("down")

    with capture_logs() as logs:
        burials = Burials(get)
        burials.begin(store.burial(*store.running))
        await burials.close()
    (line,) = [line for line in logs if line["event"] == "bury"]
    assert line["jobs"] == ["crashed job-0"]


async def test_so_many_are_under_way_at_the_same_time_and_so_many_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(burials_module, "AT_ONCE_MAX", 2)
    monkeypatch.setattr(burials_module, "WAITING_MAX", 5)
    stores = [Cemetery(1) for _ in range(5)]
    burials = Burials()
    for store in stores:
        store.failures = 1_000_000
        assert await asyncio.wait_for(burials.room(), DEADLINE_S)
        burials.begin(store.burial())
    full = asyncio.create_task(burials.room())
    await asyncio.sleep(0.05)
    assert [store.failures < 1_000_000 for store in stores] == [True, True, False, False, False]
    assert not full.done()
    for store in stores:
        store.failures = 0
    assert await asyncio.wait_for(full, DEADLINE_S)
    await burials.close()
    assert all(store.running == {} for store in stores)


async def test_at_a_stop_they_have_a_bound_and_what_is_left_is_said() -> None:
    store = Cemetery(3)
    store.failures = 1_000_000
    burials = Burials()
    with capture_logs() as logs:
        burials.begin(store.burial())
        await asyncio.wait_for(burials.close(within_s=0.1), DEADLINE_S)
    assert [line["complete"] for line in logs if "complete" in line] == [False]
    await burials.close()


async def test_what_a_claim_brought_in_behind_it_is_given_back() -> None:
    """A claim of the dead process may still have been at the store; after the leave the store refuses such claims."""
    store = Cemetery(1)
    store.late = [Held(JobRef("default", "default", "late"), 9)]
    await store.burial().perform()
    assert [type(one) for one in store.outcomes["late", 9]] == [Release]


@pytest.mark.parametrize(
    "code, words",
    [(0, "exit code 0"), (3, "exit code 3"), (-11, "SIGSEGV"), (-9, "memory"), (-6, "SIGABRT"), (-63, "signal 63")],
)
def test_the_cause_of_death_is_named(code: int, words: str) -> None:
    assert words in cause_of_death(code)
