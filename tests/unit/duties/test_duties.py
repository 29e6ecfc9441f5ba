"""The leader's duties over a memory store: who leads, what is swept, and what they survive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from goqueue.duties import Duties
from goqueue.duties.leader import Leader
from goqueue.duties.loop import Loop
from goqueue.duties.sweep import PIECES_MAX, sweep
from goqueue.model.admin import Duty, Swept, Term
from goqueue.model.errors import StoreUnavailable
from goqueue.settings import DutySettings
from goqueue.store.memory.store import MemoryStore

DEADLINE_S = 10.0
SETTINGS = DutySettings(sweep_s=0.1, full_sweep_s=600.0, history_s=1.0, leader_ttl_s=1.0)


class WatchedStore(MemoryStore):
    """Notes the upkeep that it is asked for."""

    def __init__(self, *, shared: WatchedStore | None = None) -> None:
        super().__init__(shared.memory if shared is not None else None)
        self.asked: list[Duty] = []
        self.elections = 0
        self.down = False
        self.more = 0
        self.changed = asyncio.Event()

    async def sweep(self, duty: Duty, limit: int) -> Swept:
        self.changed.set()
        if self.down:
            raise StoreUnavailable("down")
        self.asked.append(duty)
        if self.more > 0:
            self.more -= 1
            return Swept(limit, more=True)
        return await super().sweep(duty, limit)

    async def elect(self, name: str, holder: str, ttl_s: float) -> Term | None:
        self.elections += 1
        self.changed.set()
        if self.down:
            raise StoreUnavailable("down")
        return await super().elect(name, holder, ttl_s)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


async def test_the_leader_sweeps_everything_at_its_start_and_the_full_sweep_only_then() -> None:
    store = WatchedStore()
    duties = Duties(store, SETTINGS)
    duties.start()
    await store.until(lambda: store.asked.count(Duty.ORPHANS) >= 3)
    assert duties.is_leader
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
    await second.until(lambda: second.elections >= 2)
    assert second.asked == []
    assert not waiting.is_leader
    await leading.stop()
    assert not leading.is_leader
    await second.until(lambda: Duty.ORPHANS in second.asked)
    await waiting.stop()


async def test_duties_survive_a_store_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goqueue.duties.loop.RETRY_S", 0.01)
    store = WatchedStore()
    store.down = True
    duties = Duties(store, SETTINGS)
    duties.start()
    await store.until(lambda: store.elections >= 3)
    assert not duties.is_leader
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
    leader = Leader(store, name="duties", holder="me", ttl_s=0.05)
    await leader.stand()
    assert leader.is_leader
    await asyncio.sleep(0.06)  # that time passes is the point
    assert not leader.is_leader


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


async def test_a_sweep_goes_on_while_there_is_more_but_not_for_ever() -> None:
    store = WatchedStore()
    store.more = 5
    assert await sweep(store, Duty.ORPHANS, 10) == 50
    store.more = PIECES_MAX * 2
    assert await sweep(store, Duty.ORPHANS, 1) == PIECES_MAX
