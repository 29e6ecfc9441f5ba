"""`goqueue run`: one handler, through the same line as in a worker, on a store in memory."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING

import typer

from goqueue.cli import logs
from goqueue.cli.options import LogFormat
from goqueue.cli.output import write_json
from goqueue.cli.processes import run_loop
from goqueue.engine.worker import Worker
from goqueue.model.errors import JobFailed
from goqueue.model.job import DEFAULT_TENANT
from goqueue.model.state import JobState
from goqueue.settings import WorkerSettings
from goqueue.tasks.prepare import prepare

if TYPE_CHECKING:
    from goqueue.cli.doors import Doors
    from goqueue.model.job import JobRecord, NewJob
    from goqueue.tasks.app import GoQueue


def run_once(doors: Doors, app: GoQueue, kind: str, args: bytes) -> None:
    """Run one job and print its result as JSON; its error and exit code 1 if it fails."""
    task = app.find(kind).alone
    job: NewJob[object] = task.job(**task.decode(args)).options(max_attempts=1, unique=None, delay_s=None)
    # How the job ended is told below.
    logs.configure(LogFormat.TEXT, source="run", level=logging.WARNING, outcomes=False)
    record = run_loop(_run(doors, app, job))
    if record.state is JobState.COMPLETED:
        if record.result is not None:
            write_json(record.result)
        return
    for error in record.errors:
        sys.stderr.write(error.traceback.rstrip() + "\n" if error.traceback else "")
    last = record.errors[-1] if record.errors else None
    why = f"{last.type}: {last.message}" if last else (record.reason or f"it is {record.state}, not completed")
    raise JobFailed(f"{kind} did not complete: {why}", record.errors)


async def _run(doors: Doors, app: GoQueue, job: NewJob[object]) -> JobRecord:
    store = doors.store("memory://")
    await store.open()
    try:
        ready = prepare(job)
        await store.enqueue([ready])
        worker = Worker(app, store, WorkerSettings(), queues=(ready.queue,))
        running = asyncio.create_task(worker.run_until_idle())
        try:
            await running
        except asyncio.CancelledError:
            worker.stop(now=True)
            await asyncio.gather(running, return_exceptions=True)
            raise
        (record,) = await store.get(DEFAULT_TENANT, [ready.id])
        if record is None:
            raise typer.Exit(1)
        return record
    finally:
        await store.close()
