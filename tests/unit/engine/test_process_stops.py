"""Stops reach handlers in processes; who does not listen is killed; processes are replaced when worn."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from goqueue.engine.executors import wire
from goqueue.engine.executors.processes import ProcessExecutor
from goqueue.engine.worker import Worker
from goqueue.model.lease import Lease
from goqueue.model.outcome import Complete
from goqueue.model.query import CancelJobs, Selection
from goqueue.model.state import JobState
from tests.unit.engine import apart_app as tasks
from tests.unit.engine.faults import DEADLINE_S, FaultyStore, quick

REF = "tests.unit.engine.apart_app:app"


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pid"


async def run(store: FaultyStore, **settings: object) -> None:
    async with asyncio.timeout(60):
        await Worker(tasks.app, store, quick(**settings), app_ref=REF).run_until_idle()


@asynccontextmanager
async def working(store: FaultyStore, **settings: object) -> AsyncIterator[Worker]:
    worker = Worker(tasks.app, store, quick(beat_s=0.1, lease_s=3.0, **settings), app_ref=REF)
    running = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.stop(now=True)
        await asyncio.wait_for(running, DEADLINE_S)


def lives(path: Path) -> bool:
    with suppress(ProcessLookupError):
        os.kill(int(path.read_text()), 0)
        return True
    return False


def said(path: Path) -> str:
    return path.read_text() if path.exists() else ""


async def wait_for(path: Path) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not said(path):  # noqa: ASYNC110  another process writes it
            await asyncio.sleep(0.01)


async def test_a_plain_handler_sees_its_timeout_and_what_it_returns_later_does_not_count(
    store: FaultyStore, path: Path
) -> None:
    ids = await store.enqueue(tasks.polite.job(str(path)))
    await run(store)
    (job,) = await store.jobs(ids)
    assert said(Path(f"{path}.told")) == "True"
    assert (job.state, job.errors[0].type) == (JobState.RETRYING, "TimeoutError")


@pytest.mark.parametrize("task", [tasks.waits, tasks.waits_async], ids=lambda task: task.kind)
async def test_a_cancel_request_reaches_it_and_the_process_lives_on(
    store: FaultyStore, path: Path, task: object
) -> None:
    ids = await store.enqueue(task.job(str(path)))  # type: ignore[attr-defined] # one of two tasks
    async with working(store, cancel_grace_s=30.0):
        await wait_for(path)
        await store.memory.change(Selection("default", tuple(ids)), CancelJobs())
        await store.until(lambda: len(store.settled) == 1)
        (job,) = await store.jobs(ids)
        if task is tasks.waits:  # it came to its end all the same: its work is done
            assert (job.state, bytes(job.result or b"")) == (JobState.COMPLETED, b'"told"')
        else:
            assert said(Path(f"{path}.told")) == "cancelled"
            assert job.state is JobState.CANCELLED
        assert lives(path)
        ids = await store.enqueue(tasks.in_process.job(1))
        await store.until(lambda: len(store.settled) == 2)
        (after,) = await store.jobs(ids)
        assert bytes(after.result or b"") == f"[{said(path)},2]".encode()


@pytest.mark.parametrize("why", ["cancel", "timeout", "deadline", "hand back"])
async def test_who_does_not_listen_is_killed_after_the_grace(store: FaultyStore, path: Path, why: str) -> None:
    job = tasks.deaf.job(str(path))
    if why == "timeout":
        job = job.options(timeout_s=0.5)
    if why == "deadline":
        job = job.options(deadline_s=1.0)
    with capture_logs() as logs:
        async with working(store, cancel_grace_s=0.2) as worker:
            await store.enqueue(tasks.in_process.job(0))
            await store.until(lambda: len(store.settled) == 1)  # its process is there
            ids = await store.enqueue(job)
            await wait_for(path)
            if why == "cancel":
                await store.memory.change(Selection("default", tuple(ids)), CancelJobs())
            if why == "hand back":
                worker.stop(now=True)
            await store.until(lambda: len(store.settled) == 2)
            if why != "hand back":
                ids += await store.enqueue(tasks.in_process.job(1))  # its slot is free
                await store.until(lambda: len(store.settled) == 3)
    told = [(line["job_id"], line["stop"], line["outcome"]) for line in logs if line["event"] == "kill"]
    outcome = {"cancel": "cancel", "timeout": "retry", "deadline": "dead", "hand back": "release"}[why]
    assert told == [(ids[0], why.replace(" ", "_"), outcome)]
    assert not lives(path)
    stopped, *after = await store.jobs(ids)
    assert [other.state for other in after] == [JobState.COMPLETED] * (why != "hand back")
    match why:
        case "cancel":
            assert stopped.state is JobState.CANCELLED
        case "timeout":
            assert (stopped.state, stopped.errors[0].type) == (JobState.RETRYING, "TimeoutError")
            assert "HandlerHung" in stopped.errors[0].traceback
        case "deadline":
            assert (stopped.state, stopped.reason) == (JobState.DEAD, "deadline")
            assert stopped.errors[0].type == "DeadlineExceeded"
        case _:
            assert (stopped.state, stopped.attempt) == (JobState.READY, 0)
    assert stopped.crashes == 0


async def test_a_lifespan_is_entered_once_in_a_process_and_left_at_its_end(
    store: FaultyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(tasks.TRACE, str(tmp_path / "trace"))
    ids = await store.enqueue(*(tasks.in_process.job(n) for n in range(5)))
    await run(store)
    results = [bytes(job.result or b"") for job in await store.jobs(ids)]
    lines = said(tmp_path / "trace").splitlines()
    (child,) = {line.split()[1] for line in lines} - {str(os.getpid())}
    assert results == [f"[{child},{n + 1}]".encode() for n in range(5)]
    assert [line for line in lines if child in line] == [f"enter {child}", f"leave {child}"]


async def test_a_lifespan_that_fails_in_a_process_is_told_and_the_next_job_has_another_process(
    store: FaultyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(tasks.TRACE, str(tmp_path / "trace"))
    monkeypatch.setenv("GOQUEUE_TEST_BROKEN", str(os.getpid()))  # everywhere but here
    ids = await store.enqueue(tasks.in_process.job(1), tasks.in_process.job(2), tasks.in_loop.job(1))
    await run(store)
    *failed, fine = await store.jobs(ids)
    assert [(job.state, job.attempt, job.crashes) for job in failed] == [(JobState.RETRYING, 1, 0)] * 2
    assert {job.errors[0].message for job in failed} == {"the lifespan is broken"}
    assert fine.state is JobState.COMPLETED


async def test_without_a_reference_to_the_application_there_is_no_state_in_a_process(store: FaultyStore) -> None:
    ids = await store.enqueue(tasks.in_process.job(1), tasks.grow.job(1))
    async with asyncio.timeout(60):
        await Worker(tasks.app, store, quick()).run_until_idle()
    failed, fine = await store.jobs(ids)
    assert "'NoneType' object has no attribute 'add'" in failed.errors[0].message
    assert fine.state is JobState.COMPLETED


async def test_a_process_is_replaced_after_so_many_jobs(store: FaultyStore) -> None:
    ids = await store.enqueue(*(tasks.grow.job(1) for _ in range(6)))
    await run(store, recycle_jobs=2)
    pids = [bytes(job.result or b"") for job in await store.jobs(ids)]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [2, 2, 2]


async def test_a_process_is_replaced_when_it_has_grown(store: FaultyStore) -> None:
    ids = await store.enqueue(*(tasks.grow.job(count) for count in (1, 1, 300 << 20, 1)))
    await run(store, recycle_memory_bytes=250 << 20)
    pids = [bytes(job.result or b"") for job in await store.jobs(ids)]
    assert pids[0] == pids[1] == pids[2] != pids[3]


async def test_a_stop_at_once_does_not_wait_for_the_grace(store: FaultyStore, path: Path) -> None:
    ids = await store.enqueue(tasks.deaf.job(str(path)))
    async with working(store, cancel_grace_s=3600.0):
        await wait_for(path)
        stopped_at = time.monotonic()
    assert time.monotonic() - stopped_at < DEADLINE_S
    assert [(job.state, job.attempt) for job in await store.jobs(ids)] == [(JobState.READY, 0)]
    assert not lives(path)


async def test_what_a_job_has_left_behind_in_a_process_cannot_speak_for_the_next_one(
    store: FaultyStore, path: Path
) -> None:
    ids = await store.enqueue(tasks.leave_a_thread.job(str(path)), tasks.let_it_speak.job(str(path)))
    await run(store, beat_s=0.1, lease_s=3.0)
    first, second = await store.jobs(ids)
    assert first.result == second.result  # in one process
    assert said(Path(f"{path}.told")) == "lease_lost True"
    assert all(held.progress is None for beat in store.beats for held in beat.held)
    assert len(store.settled) == 2


async def test_an_end_that_crosses_a_timeout_on_the_way_does_not_count(
    store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Child:
        def __init__(self) -> None:
            self.halted = asyncio.Event()

        def halt(self, lease: Lease, stop: str) -> None:
            self.halted.set()

    async def done_too_soon(
        self: object, task: object, lease: Lease, *, started: Callable[[Child], None], **_: object
    ) -> wire.Done:
        child = Child()
        started(child)
        await child.halted.wait()
        return wire.Done(Complete(b"1"))  # judged before it heard that it shall stop

    monkeypatch.setattr(ProcessExecutor, "run", done_too_soon)
    ids = await store.enqueue(tasks.in_process.job(1).options(timeout_s=0.05))
    await run(store)
    (job,) = await store.jobs(ids)
    assert (job.state, job.result, job.errors[0].type) == (JobState.RETRYING, None, "TimeoutError")
