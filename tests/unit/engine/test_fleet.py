"""A worker in its fleet: when it beats, when it asks to be replaced, and that it ends when it cannot go on."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING
from unittest.mock import Mock

import pytest
from structlog.testing import capture_logs

from goqueue.engine import keeper
from goqueue.engine import worker as worker_module
from goqueue.engine.fetcher import Fetcher
from goqueue.engine.keeper import beat_in_s
from goqueue.engine.lifeline import LINE_BYTES_MAX, Lifeline, Will, decode_to_supervisor
from goqueue.engine.worker import Worker, WorkerBroken
from goqueue.model.errors import StoreUnavailable
from goqueue.model.outcome import Answer, Complete
from goqueue.tasks.app import GoQueue
from tests.unit.engine.faults import DEADLINE_S, FaultyStore, Latch, quick
from tests.unit.engine.test_worker_life import working

if TYPE_CHECKING:
    from goqueue.settings import WorkerSettings


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


@pytest.fixture
def app() -> GoQueue:
    return GoQueue()


@pytest.mark.parametrize("routine, level", [(True, "info"), (False, "warning")])
async def test_to_be_replaced_as_planned_is_no_warning(
    store: FaultyStore, app: GoQueue, routine: bool, level: str
) -> None:
    worker = Worker(app, store, quick(), lifeline=Mock())
    with capture_logs() as logs:
        worker._recycle("why", routine=routine)
    assert [(line["event"], line["log_level"]) for line in logs] == [("recycle", level)]


# -- beats of a fleet -----------------------------------------------------------------------------


def test_beats_are_spread_and_never_later_than_is_safe() -> None:
    settings = quick(lease_s=30.0, beat_s=5.0)
    assert [beat_in_s(settings, at) for at in (0.0, 0.5, 1.0)] == pytest.approx([4.5, 5.0, 5.5])
    tight = quick(lease_s=30.0, beat_s=10.0)
    assert beat_in_s(tight, 0.0) == pytest.approx(9.0)
    assert beat_in_s(tight, 1.0) == 10.0


async def test_workers_that_start_together_do_not_beat_together(
    store: FaultyStore, app: GoQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    chances = iter([0.0, 1.0] * 100)
    monkeypatch.setattr("goqueue.engine.keeper.random.random", lambda: next(chances))
    asked: list[float] = []
    real = keeper.beat_in_s

    def beat_in_s(settings: WorkerSettings, random01: float) -> float:
        asked.append(real(settings, random01))
        return asked[-1]

    monkeypatch.setattr(keeper, "beat_in_s", beat_in_s)
    async with working(*(Worker(app, store, quick(beat_s=0.1, lease_s=3.0)) for _ in range(2))):
        await store.until(lambda: len(asked) >= 4)
    assert sorted(set(asked)) == pytest.approx([0.09, 0.11])


@pytest.mark.parametrize("beat_s, warned", [(10.0, False), (0.2, False), (20.0, True)])
async def test_a_beat_that_does_not_fit_to_the_lease_is_said(
    store: FaultyStore, app: GoQueue, beat_s: float, warned: bool
) -> None:
    with capture_logs() as logs:
        async with working(Worker(app, store, quick(beat_s=beat_s, lease_s=3.0))):
            await store.until(lambda: len(store.beats) >= 1)
    lines = [line for line in logs if line["event"] == "beat"]
    assert [line["beat_s"] for line in lines] == [beat_s] * warned


# -- a worker that cannot go on -------------------------------------------------------------------


@pytest.mark.parametrize("part", ["Keeper.run", "Fetcher.pump", "Fetcher.listen"])
async def test_a_worker_whose_loop_has_ended_hands_back_and_ends_with_an_error(
    store: FaultyStore, app: GoQueue, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    latch = Latch()
    module, cls = ("keeper", keeper.Keeper) if part.startswith("Keeper") else ("fetcher", Fetcher)
    name = part.partition(".")[2]
    real = getattr(cls, name)
    broken: list[object] = []

    async def run(self: object) -> None:
        work = asyncio.ensure_future(real(self))
        try:
            await latch.until_started()
        finally:
            work.cancel()
        if not broken:  # one of two pumps is enough
            broken.append(self)
            raise ZeroDivisionError(f"a bug in the {module}")
        await real(self)

    monkeypatch.setattr(cls, name, run)

    @app.task
    async def hold() -> None:
        await latch.pass_through()

    ids = await store.enqueue(hold.job())
    with capture_logs() as logs, pytest.raises(WorkerBroken, match="a bug in the"):
        await asyncio.wait_for(Worker(app, store, quick(grace_s=60.0)).run(), DEADLINE_S)
    assert [job.attempt for job in await store.jobs(ids)] == [0]  # it has been handed back
    assert "ZeroDivisionError" in next(line["error"] for line in logs if line["event"] == "loop")


# -- a will ---------------------------------------------------------------------------------------


async def test_outcomes_that_the_store_does_not_take_go_to_the_supervisor_and_the_worker_does_not_leave(
    store: FaultyStore, app: GoQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leave that came through would let the sweep count crashes before the supervisor has settled them."""
    monkeypatch.setattr(worker_module, "FLUSH_S", 0.1)
    store.spoil = lambda one: StoreUnavailable("only beats come through") if one.ref.id in refused else Answer.BUSY
    text, latch = "x" * 60_000, Latch()

    @app.task
    async def long() -> str:
        latch.note()
        return text

    @app.task
    async def busy() -> None:
        latch.note()

    refused = await store.enqueue(*(long.job() for _ in range(20)))
    locked = await store.enqueue(*(busy.job() for _ in range(3)))
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours, limit=LINE_BYTES_MAX)

    async def hear() -> list[Will]:
        said = [decode_to_supervisor.decode(line) async for line in reader]
        return [one for one in said if isinstance(one, Will)]

    hearing = asyncio.create_task(hear())
    with theirs:
        worker = Worker(app, store, quick(concurrency=30), lifeline=Lifeline(theirs))
        running = asyncio.create_task(worker.run())
        await latch.until_started(23)
        worker.stop()
        await asyncio.wait_for(running, DEADLINE_S)
    wills = await asyncio.wait_for(hearing, DEADLINE_S)
    told = {one.ref.id: one.outcome for will in wills for one in will.outcomes}
    assert told == dict.fromkeys(refused, Complete(f'"{text}"'.encode())) | dict.fromkeys(locked, Complete())
    assert len(wills) > 1  # none is longer than a line may be
    assert all(beat.ttl_s > 0 for beat in store.beats)
    writer.close()
