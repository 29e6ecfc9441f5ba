"""Jobs whose process has died under them run alone, in a process that has run nothing before."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from goqueue.engine.worker import Worker
from goqueue.model.job import NewJob
from goqueue.model.outcome import Complete, Crash, Release, Snooze
from goqueue.model.state import JobState
from goqueue.settings import StoreSettings
from goqueue.store.memory.store import MemoryStore
from goqueue.tasks.app import GoQueue
from tests.unit.engine import apart_app as tasks
from tests.unit.engine.faults import DEADLINE_S, FaultyStore, quick

REF = "tests.unit.engine.apart_app:app"


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore(MemoryStore(settings=StoreSettings(crash_delay_s=0.0)))


async def run(store: FaultyStore, app: GoQueue = tasks.app, ref: str | None = REF, **settings: object) -> None:
    async with asyncio.timeout(60):
        await Worker(app, store, quick(**settings), app_ref=ref).run_until_idle()


@asynccontextmanager
async def working(store: FaultyStore, **settings: object) -> AsyncIterator[Worker]:
    worker = Worker(tasks.app, store, quick(beat_s=0.1, lease_s=3.0, **settings), app_ref=REF)
    running = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.stop(now=True)
        await asyncio.wait_for(running, DEADLINE_S)


async def suspects(store: FaultyStore, *jobs: NewJob[object], crashes: int = 1) -> list[str]:
    ids = await store.enqueue(*jobs)
    for id in ids:
        store.memory.memory.live["default", id].crashes = crashes
    return ids


def said(path: Path) -> str:
    return path.read_text() if path.exists() else ""


async def test_every_kind_of_handler_runs_in_a_fresh_process_with_the_applications_state(store: FaultyStore) -> None:
    jobs = [task.job(n) for n, task in enumerate((tasks.in_loop, tasks.in_thread, tasks.in_process) * 2)]
    ids = await suspects(store, *jobs)
    usual = await store.enqueue(tasks.in_process.job(0), tasks.in_loop.job(0))
    await run(store, prefetch=30)
    results = [bytes(job.result or b"").strip(b"[]").split(b",") for job in await store.jobs(ids)]
    assert [int(n) for _, n in results] == [1, 2, 3, 4, 5, 6]
    others = [bytes(job.result or b"").strip(b"[]").split(b",") for job in await store.jobs(usual)]
    pids = [int(pid) for pid, _ in results + others]
    assert len(set(pids)) == len(pids)  # two that ran as usual: in a child, and here
    assert pids[-1] == os.getpid()
    for pid in pids[:-1]:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_a_poison_job_dies_alone_and_is_dead_in_the_end(store: FaultyStore) -> None:
    ids = await suspects(store, tasks.leave.job(7), tasks.leave_async.job(9), crashes=1)
    fine = await suspects(store, *(tasks.in_loop.job(n) for n in range(4)))
    await run(store, poll_s=0.01, prefetch=30)
    dead = await store.jobs(ids)
    assert {(job.state, job.reason, job.crashes, job.attempt) for job in dead} == {(JobState.DEAD, "crashed", 3, 2)}
    assert ["exit code 7" in dead[0].errors[-1].message, "exit code 9" in dead[1].errors[-1].message] == [True, True]
    assert {error.type for job in dead for error in job.errors} == {"HandlerDied"}
    assert {(job.state, job.crashes) for job in await store.jobs(fine)} == {(JobState.COMPLETED, 1)}


async def test_so_many_run_at_a_time_and_hold_up_no_other(store: FaultyStore, tmp_path: Path) -> None:
    until = tmp_path / "until"
    paths = [tmp_path / str(n) for n in range(12)]
    held = await suspects(store, *(tasks.hold.job(str(path), str(until)) for path in paths))
    async with working(store, concurrency=2, prefetch=6, suspects=3, poll_s=0.01):
        usual = await store.enqueue(*(tasks.in_loop.job(n) for n in range(30)))
        async with asyncio.timeout(DEADLINE_S):
            while sum(bool(said(path)) for path in paths) < 3:  # noqa: ASYNC110  other processes write them
                await asyncio.sleep(0.01)
        await store.until(lambda: sum(type(s.outcome) is Complete for s in store.settled) == 30)
        assert {job.state for job in await store.jobs(usual)} == {JobState.COMPLETED}
        assert sum(bool(said(path)) for path in paths) == 3
        put_off = [s.outcome for s in store.settled if isinstance(s.outcome, Snooze)]
        assert put_off
        assert {outcome.reason for outcome in put_off} == {"waits for a process of its own"}
        until.touch()
        await store.until(lambda: sum(type(s.outcome) is Complete for s in store.settled) == 42)
    jobs = await store.jobs(held)
    assert {(job.state, job.attempt) for job in jobs} == {(JobState.COMPLETED, 1)}
    assert len({bytes(job.result or b"") for job in jobs}) == 12


async def test_those_that_wait_are_held_and_handed_back_at_a_stop(store: FaultyStore, tmp_path: Path) -> None:
    until, path = tmp_path / "until", tmp_path / "pid"
    ids = await suspects(store, *(tasks.hold.job(str(path), str(until)) for _ in range(3)))
    async with working(store, concurrency=10, suspects=1) as worker:
        # One that has its process but has not started in it would be handed back, too.
        await store.until(lambda: bool(store.beats) and len(store.beats[-1].held) == 3 and bool(said(path)))
        worker.stop()
        await store.until(lambda: sum(type(s.outcome) is Release for s in store.settled) == 2)
        until.touch()
        await store.until(lambda: len(store.settled) == 3)
    assert sorted((job.state, job.attempt) for job in await store.jobs(ids)) == [
        (JobState.COMPLETED, 1),
        (JobState.READY, 0),
        (JobState.READY, 0),
    ]


async def test_one_that_no_other_process_could_import_runs_in_the_worker_with_one_warning(store: FaultyStore) -> None:
    app, pids = GoQueue(), []

    @app.task
    async def hidden() -> None:
        pids.append(os.getpid())

    ids = await suspects(store, hidden.job(), hidden.job())
    with capture_logs() as logs:
        await run(store, app, None)
    assert pids == [os.getpid()] * 2
    assert {job.state for job in await store.jobs(ids)} == {JobState.COMPLETED}
    (warned,) = [line for line in logs if line["event"] == "suspect"]
    assert warned["log_level"] == "warning"
    assert "importable module" in warned["do"]


async def test_without_a_reference_to_the_application_one_runs_apart_all_the_same(store: FaultyStore) -> None:
    ids = await suspects(store, tasks.grow.job(1), tasks.leave.job(3), crashes=2)
    await run(store, ref=None)
    fine, dead = await store.jobs(ids)
    assert (fine.state, dead.state, dead.reason, dead.crashes) == (JobState.COMPLETED, JobState.DEAD, "crashed", 3)
    assert sum(type(s.outcome) is Crash for s in store.settled) == 1


async def test_an_unknown_kind_that_crashed_elsewhere_waits_as_any_other(store: FaultyStore) -> None:
    ids = await suspects(store, NewJob(kind="of another version"))
    await run(store)
    assert [(job.attempt, job.crashes) for job in await store.jobs(ids)] == [(0, 1)]
