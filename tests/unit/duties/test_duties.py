"""The leader's duties over a memory store: who leads, what is swept, and what they survive."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from goqueue.duties import Duties
from goqueue.duties.history import REMIND_S, History
from goqueue.duties.leader import REST_S, Leader
from goqueue.duties.loop import Loop
from goqueue.duties.sweep import PIECES_MAX, Sweep, sweep
from goqueue.model.admin import Duty, Swept, Term
from goqueue.model.errors import PermissionDenied, StoreUnavailable
from goqueue.settings import DutySettings
from goqueue.store.memory.store import MemoryStore

DEADLINE_S = 10.0
SETTINGS = DutySettings(sweep_s=0.1, full_sweep_s=600.0, history_s=1.0, leader_ttl_s=1.0)


class WatchedStore(MemoryStore):
    """Notes the upkeep that it is asked for."""

    def __init__(self, *, shared: WatchedStore | None = None) -> None:
        super().__init__(shared.memory if shared is not None else None)
        self.asked: list[Duty] = []
        self.terms: list[Term | None] = []
        self.elections = 0
        self.down = False
        self.more = 0
        self.may_make_partitions = True
        self.may_elect = True
        self.sweep_honestly = False
        self.changed = asyncio.Event()

    async def sweep(self, duty: Duty, limit: int, term: Term | None = None) -> Swept:
        self.changed.set()
        if self.down:
            raise StoreUnavailable("down")
        self.asked.append(duty)
        self.terms.append(term)
        if duty is Duty.HISTORY and not self.may_make_partitions:
            raise PermissionDenied("must be owner of table job_history")
        if self.more > 0 and not self.sweep_honestly:
            self.more -= 1
            return Swept(limit, more=True)
        return await super().sweep(duty, limit, term)

    async def elect(self, name: str, holder: str, ttl_s: float) -> Term | None:
        self.elections += 1
        self.changed.set()
        if self.down:
            raise StoreUnavailable("down")
        if not self.may_elect:
            raise PermissionDenied("permission denied for table leader")
        return await super().elect(name, holder, ttl_s)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def leads(leader: Leader) -> bool:
    return leader.is_leader  # through a function: mypy takes a property for a constant


async def test_the_leader_sweeps_everything_at_its_start_and_the_full_sweep_only_then() -> None:
    store = WatchedStore()
    duties = Duties(store, SETTINGS)
    duties.start()
    await store.until(lambda: store.asked.count(Duty.ORPHANS) >= 3)
    await store.until(lambda: Duty.HISTORY in store.asked)
    assert duties.leads == ("sweep", "history")
    await duties.stop()
    assert set(store.asked) == set(Duty)
    assert store.asked.count(Duty.ORPHANS_FULL) == 1


async def test_only_one_leads_and_when_it_stops_another_takes_over() -> None:
    first = WatchedStore()
    second = WatchedStore(shared=first)
    leading, waiting = Duties(first, SETTINGS), Duties(second, SETTINGS)
    leading.start()
    await first.until(lambda: Duty.ORPHANS in first.asked)
    waiting.start()
    await second.until(lambda: second.elections >= 4)
    assert second.asked == []
    assert waiting.leads == ()
    await leading.stop()
    assert leading.leads == ()
    await second.until(lambda: Duty.ORPHANS in second.asked)
    await waiting.stop()


async def test_duties_survive_a_store_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goqueue.duties.loop.RETRY_S", 0.01)
    store = WatchedStore()
    store.down = True
    duties = Duties(store, SETTINGS)
    duties.start()
    await store.until(lambda: store.elections >= 6)
    assert duties.leads == ()
    store.down = False
    await store.until(lambda: Duty.ORPHANS in store.asked)
    store.down = True
    seen = store.elections
    await store.until(lambda: store.elections >= seen + 3)
    store.down = False
    swept = len(store.asked)
    await store.until(lambda: len(store.asked) > swept)
    store.down = True
    await duties.stop()  # it cannot resign, and says so


async def test_a_term_lapses_without_renewal() -> None:
    store = WatchedStore()
    clock = Clock()
    leader = Leader(store, name="sweep", holder="me", ttl_s=5.0, now_s=clock)
    await leader.stand()
    clock.now_s = 4.9
    assert leads(leader)
    await asyncio.wait_for(leader.until_elected(), DEADLINE_S)
    clock.now_s = 5.0
    assert not leads(leader)
    waiting = asyncio.create_task(leader.until_elected())
    await asyncio.sleep(0)
    assert not waiting.done()  # not led by what its last election told
    await leader.stand()
    await asyncio.wait_for(waiting, DEADLINE_S)


# -- rights ---------------------------------------------------------------------------------------


async def test_history_goes_to_a_process_that_may_do_it_and_sweeps_go_on_by_the_one_that_may_not() -> None:
    worker = WatchedStore()
    worker.may_make_partitions = False
    owner = WatchedStore(shared=worker)
    settings = DutySettings(sweep_s=0.01, full_sweep_s=600.0, history_s=0.01, leader_ttl_s=0.3)
    first, second = Duties(worker, settings), Duties(owner, settings)
    first.start()
    await worker.until(lambda: Duty.HISTORY in worker.asked)
    second.start()
    await owner.until(lambda: owner.asked.count(Duty.HISTORY) >= 3)
    seen = worker.asked.count(Duty.ORPHANS)
    await worker.until(lambda: worker.asked.count(Duty.ORPHANS) >= seen + 3)
    assert first.leads == ("sweep",)
    assert second.leads == ("history",)
    assert worker.asked.count(Duty.HISTORY) == 1
    assert set(owner.asked) == {Duty.HISTORY}
    await first.stop()
    await second.stop()


async def test_who_may_not_keep_the_history_resigns_says_so_once_and_rests() -> None:
    store, clock = WatchedStore(), Clock()
    store.may_make_partitions = False
    leader = Leader(store, name="history", holder="me", ttl_s=60.0, now_s=clock)
    other = Leader(store, name="history", holder="other", ttl_s=60.0, now_s=clock)
    history = History(store, SETTINGS, leader, now_s=clock)
    await leader.stand()
    await other.stand()
    assert (leads(leader), leads(other)) == (True, False)
    with capture_logs() as logs:
        await history()
        assert not leads(leader)
        await other.stand()
        assert leads(other)  # at once, not when the term would have ended
        await other.stop()
        elections = store.elections
        clock.now_s = REST_S - 1
        await leader.stand()
        assert store.elections == elections
        clock.now_s = REST_S
        await leader.stand()
        assert leads(leader)
        await history()
    (line,) = [line for line in logs if line["event"] == "resign"]
    assert line["log_level"] == "warning"
    assert "job_history" in line["error"]
    assert "goqueue db migrate" in line["do"]
    clock.now_s = REMIND_S
    await leader.stand()
    with capture_logs() as logs:
        await history()
    assert [line["event"] for line in logs] == ["resign"]


async def test_a_term_that_is_granted_while_its_process_resigns_is_not_kept() -> None:
    gate, asked = asyncio.Event(), asyncio.Event()

    class SlowStore(WatchedStore):
        async def elect(self, name: str, holder: str, ttl_s: float) -> Term | None:
            term = await super().elect(name, holder, ttl_s)
            asked.set()
            await gate.wait()
            return term

    store = SlowStore()
    leader = Leader(store, name="history", holder="me", ttl_s=60.0)
    standing = asyncio.create_task(leader.stand())
    await asked.wait()
    resting = asyncio.create_task(leader.rest())
    await asyncio.sleep(0)
    gate.set()
    async with asyncio.timeout(DEADLINE_S):
        await standing
        await resting
    assert not leads(leader)
    assert await store.elect("history", "other", 60.0) is not None


async def test_a_process_that_may_not_be_elected_says_so_and_rests() -> None:
    store, clock = WatchedStore(), Clock()
    store.may_elect = False
    leader = Leader(store, name="sweep", holder="me", ttl_s=15.0, now_s=clock)
    with capture_logs() as logs:
        await leader.stand()
        await leader.stand()
    assert [(line["event"], line["log_level"]) for line in logs] == [("elect", "warning")]
    assert store.elections == 1
    clock.now_s = REST_S
    store.may_elect = True
    await leader.stand()
    assert leads(leader)


# -- starts, stops and bugs -----------------------------------------------------------------------


async def test_start_and_stop_in_any_order() -> None:
    store = WatchedStore()
    duties = Duties(store, SETTINGS)
    await duties.stop()
    duties.start()
    duties.start()
    await store.until(lambda: Duty.ORPHANS in store.asked)
    await duties.stop()
    await duties.stop()
    seen = len(store.asked)
    duties.start()
    await store.until(lambda: len(store.asked) > seen)
    await duties.stop()


async def test_a_tick_that_fails_does_not_end_its_loop() -> None:
    ticks = asyncio.Semaphore(0)

    async def tick() -> None:
        ticks.release()
        raise ValueError("a bug")

    loop = Loop("buggy", 0.01, tick)
    loop.start()
    async with asyncio.timeout(DEADLINE_S):
        for _ in range(3):
            await ticks.acquire()
    await loop.stop()


async def test_a_tick_that_loses_a_cancellation_does_not_keep_its_loop() -> None:
    begun = asyncio.Event()

    async def tick() -> None:
        begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    loop = Loop("lossy", 3600, tick)
    loop.start()
    async with asyncio.timeout(DEADLINE_S):
        await begun.wait()
        await loop.stop()


async def test_a_tick_that_waits_on_after_a_lost_cancellation_is_cancelled_again() -> None:
    begun = asyncio.Event()

    async def tick() -> None:
        begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    loop = Loop("deaf", 3600, tick)
    loop.start()
    async with asyncio.timeout(DEADLINE_S):
        await begun.wait()
        await loop.stop()


async def test_a_sweep_goes_on_while_there_is_more_but_not_for_ever() -> None:
    store = WatchedStore()
    leader = Leader(store, name="sweep", holder="me", ttl_s=60.0)
    assert await sweep(store, Duty.ORPHANS, 10, leader) == 0  # it does not lead
    assert store.asked == []
    await leader.stand()
    store.more = 5
    assert await sweep(store, Duty.ORPHANS, 10, leader) == 50
    store.more = PIECES_MAX * 2
    assert await sweep(store, Duty.ORPHANS, 1, leader) == PIECES_MAX
    assert set(store.terms) == {leader.term}


# -- terms ----------------------------------------------------------------------------------------


async def test_who_was_away_while_another_was_elected_steps_down_and_sweeps_nothing() -> None:
    """A process that was stopped does not notice that its term is over: the store does."""
    store, clock = WatchedStore(), Clock()
    leader = Leader(store, name="sweep", holder="me", ttl_s=60.0, now_s=clock)
    await leader.stand()
    first = leader.term
    assert first is not None
    await store.elect("sweep", "me", 0.0)  # as if its time had come in the store
    second = await store.elect("sweep", "other", 60.0)
    assert second is not None
    assert second.number > first.number
    store.more = 3
    round_of = Sweep(store, SETTINGS, leader)
    store.sweep_honestly = True
    with capture_logs() as logs:
        await round_of()
    assert store.asked == [Duty.ORPHANS]  # the rest of the round is not even tried
    assert [(line["event"], line["term"]) for line in logs if line["event"] == "depose"] == [("depose", first.number)]
    assert not leads(leader)
    assert leader.term is None


async def test_a_late_answer_about_an_old_term_does_not_end_a_new_one() -> None:
    store, clock = WatchedStore(), Clock()
    leader = Leader(store, name="sweep", holder="me", ttl_s=60.0, now_s=clock)
    await leader.stand()
    old = leader.term
    await store.elect("sweep", "me", 0.0)
    await store.elect("sweep", "other", 60.0)
    await store.elect("sweep", "other", 0.0)
    await leader.stand()
    leader.deposed(old)
    assert leads(leader)
    assert leader.term != old
