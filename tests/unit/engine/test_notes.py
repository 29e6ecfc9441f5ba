"""What handlers say of themselves: progress and lines, with a beat or with the outcome, from wherever they run."""

from __future__ import annotations

import asyncio
import threading

import msgspec
import pytest

from goqueue.engine.running import Running
from goqueue.engine.worker import Worker
from goqueue.model import limits
from goqueue.model.job import NewJob
from goqueue.model.lease import Beat, Beaten
from goqueue.model.outcome import Complete, NewLog, Note, Settlement
from goqueue.model.state import JobState
from goqueue.tasks.app import GoQueue
from goqueue.tasks.context import Context
from tests.unit.engine import process_app
from tests.unit.engine.faults import DEADLINE_S, FaultyStore, Latch, quick
from tests.unit.tasks.test_context import lease


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


@pytest.fixture
def app() -> GoQueue:
    return GoQueue()


async def run(app: GoQueue, store: FaultyStore) -> None:
    async with asyncio.timeout(60):
        await Worker(app, store, quick()).run_until_idle()


async def test_the_last_words_of_a_short_job_are_kept(store: FaultyStore, app: GoQueue) -> None:
    @app.task
    async def one(ctx: Context[None]) -> None:
        ctx.progress(1)
        ctx.log("began")
        ctx.progress(2)
        ctx.log("odd", "warning")

    @app.task
    def two(ctx: Context[None]) -> None:
        ctx.log("from a thread")
        other = threading.Thread(target=ctx.log, args=("from a thread of its own",))
        other.start()
        other.join()
        ctx.progress("done")

    @app.task(max_attempts=1)
    async def three(ctx: Context[None]) -> None:
        ctx.log("before the end", "error")
        raise ValueError

    ids = await store.enqueue(one.job(), two.job(), three.job())
    await run(app, store)
    first, second, third = await store.jobs(ids)
    assert first.progress == msgspec.Raw(b"2")
    assert [(log.attempt, log.level, log.message) for log in first.logs] == [
        (1, "info", "began"),
        (1, "warning", "odd"),
    ]
    assert second.progress == msgspec.Raw(b'"done"')
    assert [log.message for log in second.logs] == ["from a thread", "from a thread of its own"]
    assert (third.state, [log.message for log in third.logs]) == (JobState.DEAD, ["before the end"])


async def test_the_last_words_of_a_handler_in_a_process_are_kept(store: FaultyStore) -> None:
    ids = await store.enqueue(process_app.talk.job())
    await run(process_app.app, store)
    (job,) = await store.jobs(ids)
    assert job.progress == msgspec.Raw(b"9")
    assert [(log.level, log.message) for log in job.logs] == [("info", "from the child"), ("debug", "x" * 3)]


async def test_plain_jobs_have_no_note(store: FaultyStore, app: GoQueue) -> None:
    @app.task
    async def plain() -> None: ...

    await store.enqueue(plain.job())
    await run(app, store)
    assert [one.note for one in store.settled] == [None]


async def test_lines_travel_with_a_beat_and_once(store: FaultyStore, app: GoQueue) -> None:
    go = Latch()

    @app.task
    async def long(ctx: Context[None]) -> None:
        ctx.log("before the beat")
        await go.pass_through()
        ctx.log("after it")

    ids = await store.enqueue(long.job())
    worker = Worker(app, store, quick(beat_s=0.05, lease_s=5.0))
    running = asyncio.create_task(worker.run())
    await store.until(lambda: any(held.logs for beat in store.beats for held in beat.held))
    beats = len(store.beats)
    await store.until(lambda: len(store.beats) > beats + 2)
    go.end.set()
    await store.until(lambda: len(store.settled) == 1)
    worker.stop()
    await asyncio.wait_for(running, DEADLINE_S)
    sent = [[log.message for log in held.logs] for beat in store.beats for held in beat.held if held.logs]
    assert sent == [["before the beat"]]
    (settlement,) = store.settled
    assert settlement.note is not None
    assert [log.message for log in settlement.note.logs] == ["after it"]
    (job,) = await store.jobs(ids)
    assert [log.message for log in job.logs] == ["before the beat", "after it"]


async def test_what_a_beat_could_not_keep_comes_again(app: GoQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FaultyStore()
    go = Latch()
    extend = store.extend

    async def refuse_news(beat: Beat) -> Beaten:
        news = tuple(held.ref for held in beat.held if held.logs or held.progress)
        held = tuple(msgspec.structs.replace(one, logs=(), progress=None) for one in beat.held)
        beaten = await extend(msgspec.structs.replace(beat, held=held))
        if news:
            refused.append(news)
        return msgspec.structs.replace(beaten, unkept=news)

    refused: list[object] = []
    monkeypatch.setattr(store, "extend", refuse_news)

    @app.task
    async def long(ctx: Context[None]) -> None:
        ctx.log("one")
        ctx.progress(1)
        await go.pass_through()

    ids = await store.enqueue(long.job())
    worker = Worker(app, store, quick(beat_s=0.05, lease_s=5.0))
    running = asyncio.create_task(worker.run())
    await store.until(lambda: len(refused) >= 2)
    go.end.set()
    await store.until(lambda: len(store.settled) == 1)
    worker.stop()
    await asyncio.wait_for(running, DEADLINE_S)
    (job,) = await store.jobs(ids)
    assert ([log.message for log in job.logs], job.progress) == (["one"], msgspec.Raw(b"1"))


def test_what_waits_in_a_worker_is_bounded_and_the_newest_stay() -> None:
    app = GoQueue()

    @app.task
    async def chatty() -> None: ...

    run = Running(lease(), app.tasks["chatty"], 0.0)
    for n in range(limits.LOGS_KEPT_MAX + 5):
        run.log("info", str(n))
    note = run.note()
    assert note is not None
    assert [log.n for log in note.logs] == list(range(6, limits.LOGS_KEPT_MAX + 6))
    assert [log.n for log in run.news(2)] == [6, 7]


def test_a_note_survives_the_way_to_the_supervisor() -> None:
    job: NewJob[object] = NewJob(kind="k", id="01890a5d-ac96-774b-bcce-b302099a8057")
    settlement = Settlement(job.ref, 1, Complete(), Note(b"1", (NewLog(1, "info", "é", 2.5),)))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(settlement), type=Settlement) == settlement
