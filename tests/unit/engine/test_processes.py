"""Handlers in processes: they come back, and a death is one job's alone."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path

import pytest

from goqueue.engine.worker import Worker
from goqueue.model.job import NewJob
from goqueue.model.query import CancelJobs, Filter, Query, Selection
from goqueue.model.state import JobState
from goqueue.settings import StoreSettings
from goqueue.store.memory.store import MemoryStore
from goqueue.tasks.app import GoQueue
from goqueue.tasks.task import Task
from tests.unit.engine import process_app as tasks
from tests.unit.engine.faults import DEADLINE_S, FaultyStore, quick


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore(MemoryStore(settings=StoreSettings(crash_delay_s=60.0)))


async def run(store: FaultyStore, **settings: object) -> None:
    async with asyncio.timeout(60):
        await Worker(tasks.app, store, quick(**settings)).run_until_idle()


async def test_a_process_is_used_again_and_runs_async_functions_too(store: FaultyStore) -> None:
    ids = await store.enqueue(*(task.job() for _ in range(5) for task in (tasks.pid, tasks.pid_async)))
    await run(store)
    jobs = await store.jobs(ids)
    assert {job.state for job in jobs} == {JobState.COMPLETED}
    (pid,) = {int(bytes(job.result or b"0")) for job in jobs}
    assert pid != os.getpid()
    with pytest.raises(ProcessLookupError):  # it ended with its worker
        os.kill(pid, 0)


async def test_a_death_is_told_and_is_one_jobs_alone(store: FaultyStore) -> None:
    ids = await store.enqueue(
        tasks.pid.job(), tasks.leave.job(7), tasks.pid.job(), tasks.segfault.job(), tasks.leave.job(0), tasks.pid.job()
    )
    await run(store, child_processes=2)
    jobs = await store.jobs(ids)
    assert [job.state for job in jobs if job.kind == "pid"] == [JobState.COMPLETED] * 3
    dead = [job for job in jobs if job.kind != "pid"]
    assert {(job.state, job.attempt, job.crashes) for job in dead} == {(JobState.RETRYING, 1, 1)}
    assert {job.errors[0].type for job in dead} == {"HandlerDied"}
    assert "exit code 7" in dead[0].errors[0].message
    assert "SIGSEGV" in dead[1].errors[0].message
    assert "exit code 0" in dead[2].errors[0].message


async def test_a_timeout_kills_the_process_and_the_next_job_has_another(store: FaultyStore) -> None:
    ids = await store.enqueue(tasks.spin.job(), tasks.pid.job())
    await run(store)
    spun, fine = await store.jobs(ids)
    assert spun.errors[0].type == "TimeoutError"
    assert fine.state is JobState.COMPLETED


async def test_a_cancel_request_kills_the_process(store: FaultyStore, tmp_path: Path) -> None:
    ids = await store.enqueue(tasks.forever.job(str(tmp_path / "pid")))
    worker = Worker(tasks.app, store, quick(beat_s=0.1, lease_s=3.0))
    running = asyncio.create_task(worker.run())
    await store.until(lambda: (tmp_path / "pid").exists())
    pid = int((tmp_path / "pid").read_text() or "0")
    await store.memory.change(Selection("default", tuple(ids)), CancelJobs())
    await store.until(lambda: len(store.settled) == 1)
    worker.stop()
    await asyncio.wait_for(running, DEADLINE_S)
    assert [job.state for job in await store.jobs(ids)] == [JobState.CANCELLED]
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        raise AssertionError("the handler's process lives")


async def test_exceptions_are_judged_where_their_classes_are(store: FaultyStore) -> None:
    ids = await store.enqueue(tasks.fail.job(), tasks.snooze.job(), tasks.unprintable.job())
    await run(store)
    failed, snoozed, unprintable = await store.jobs(ids)
    assert (failed.state, failed.reason) == (JobState.DEAD, "not_retryable")
    assert "def fail" not in failed.errors[0].traceback
    assert "process_app.py" in failed.errors[0].traceback
    assert (snoozed.state, snoozed.attempt) == (JobState.SCHEDULED, 0)
    assert unprintable.state is JobState.RETRYING


@pytest.mark.parametrize("task", [tasks.raise_in_process, tasks.raise_async_in_process], ids=lambda task: task.kind)
async def test_whatever_a_handler_raises_is_one_failed_attempt_and_its_process_goes_on(
    store: FaultyStore, task: Task[[str], None]
) -> None:
    """FAULTS 8: the only slot is free for the next job, in the same process."""
    names = ("CancelledError", "GeneratorExit", "KeyboardInterrupt", "MemoryError", "RecursionError", "SystemExit")
    ids = await store.enqueue(tasks.pid.job(), *(task.job(name) for name in names), tasks.pid.job())
    await run(store, concurrency=1)
    before, *failed, after = await store.jobs(ids)
    assert [(job.state, job.attempt) for job in failed] == [(JobState.RETRYING, 1)] * len(names)
    for name, job in zip(names, failed, strict=True):
        (error,) = job.errors
        assert error.type.endswith(name)
    assert (before.state, after.state) == (JobState.COMPLETED, JobState.COMPLETED)
    assert before.result == after.result


async def test_arguments_that_do_not_fit_fail_with_a_typed_error(store: FaultyStore) -> None:
    """FAULTS 27."""
    ids = await store.enqueue(NewJob(kind="count", args=b'{"number": "x"}'), tasks.count.job(1))
    await run(store)
    bad, fine = await store.jobs(ids)
    assert (bad.state, bad.attempt, fine.state) == (JobState.RETRYING, 1, JobState.COMPLETED)
    assert "InvalidArguments" in bad.errors[0].type


async def test_a_graceful_stop_waits_for_a_process_and_past_the_grace_its_job_is_handed_back(
    store: FaultyStore, tmp_path: Path
) -> None:
    """FAULTS 10."""
    ids = await store.enqueue(tasks.forever.job(str(tmp_path / "pid")))
    worker = Worker(tasks.app, store, quick(beat_s=0.1, lease_s=3.0))
    running = asyncio.create_task(worker.run())
    await store.until(lambda: (tmp_path / "pid").exists())
    worker.stop()
    beats = len(store.beats)
    await store.until(lambda: len(store.beats) > beats + 1)
    assert not running.done()
    worker.stop()
    await asyncio.wait_for(running, DEADLINE_S)
    assert [(job.state, job.attempt) for job in await store.jobs(ids)] == [(JobState.READY, 0)]


async def test_the_context_works_across_the_process(store: FaultyStore) -> None:
    ids = await store.enqueue(tasks.parent.job())
    await run(store)
    assert [bytes(job.result or b"") for job in await store.jobs(ids)] == [b'"%s"' % ids[0].encode()]
    page = await store.memory.find(Query(filter=Filter(kinds=("grandchild",))))
    assert [job.state for job in page.jobs] == [JobState.COMPLETED]


async def test_a_function_that_cannot_be_imported_is_a_failed_attempt_with_a_reason(store: FaultyStore) -> None:
    app = GoQueue()

    @app.task(run_in="process")
    def hidden() -> None: ...

    ids = await store.enqueue(hidden.job())
    async with asyncio.timeout(60):
        await Worker(app, store, quick()).run_until_idle()
    (job,) = await store.jobs(ids)
    assert "DefinitionError" in job.errors[0].type
    assert "importable" in job.errors[0].message


async def test_a_process_that_died_idle_is_replaced_and_no_job_suffers(store: FaultyStore) -> None:
    worker = Worker(tasks.app, store, quick(poll_s=0.02))
    running = asyncio.create_task(worker.run())
    (first,) = await store.enqueue(tasks.pid.job())
    await store.until(lambda: len(store.settled) == 1)
    pid = int(bytes((await store.jobs([first]))[0].result or b"0"))
    os.kill(pid, 9)
    (second,) = await store.enqueue(tasks.pid.job())
    await store.until(lambda: len(store.settled) == 2)
    worker.stop()
    await asyncio.wait_for(running, DEADLINE_S)
    (job,) = await store.jobs([second])
    assert (job.state, job.attempt, job.errors) == (JobState.COMPLETED, 1, ())
    assert int(bytes(job.result or b"0")) != pid


async def test_that_all_idle_processes_have_died_is_no_jobs_fault(store: FaultyStore) -> None:
    """Nor is it one that they cannot be told to be dead yet."""
    worker = Worker(tasks.app, store, quick(poll_s=0.02, child_processes=4))
    running = asyncio.create_task(worker.run())
    ids = await store.enqueue(*(tasks.nap.job(0.3) for _ in range(4)))
    await store.until(lambda: len(store.settled) == 4)
    pids = {int(bytes(job.result or b"0")) for job in await store.jobs(ids)}
    assert len(pids) == 4
    for pid in pids:
        os.kill(pid, 9)
    (after,) = await store.enqueue(tasks.pid.job())
    await store.until(lambda: len(store.settled) == 5)
    worker.stop()
    await asyncio.wait_for(running, DEADLINE_S)
    (job,) = await store.jobs([after])
    assert (job.state, job.attempt, job.errors) == (JobState.COMPLETED, 1, ())


async def test_a_death_is_seen_though_something_that_was_forked_keeps_the_connection(
    store: FaultyStore, tmp_path: Path
) -> None:
    ids = await store.enqueue(tasks.die_with_a_heir.job(str(tmp_path / "heir")))
    try:
        await run(store)
    finally:
        os.kill(int((tmp_path / "heir").read_text()), 9)
    (job,) = await store.jobs(ids)
    assert (job.state, job.crashes) == (JobState.RETRYING, 1)
    assert "SIGKILL" in job.errors[0].message
