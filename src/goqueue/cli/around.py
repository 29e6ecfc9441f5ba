"""What is around a job that is not final: who runs it, or why nobody takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from goqueue.model.errors import GoQueueError
from goqueue.model.state import JobState

if TYPE_CHECKING:
    from goqueue.cli.doors import Doors
    from goqueue.model.job import JobRecord
    from goqueue.model.lease import WorkerRecord


async def around(doors: Doors, url: str, record: JobRecord) -> str:
    """Say who runs a running job, or why nobody takes one that is due; "" if there is nothing to say, or to see."""
    if record.state not in (JobState.RUNNING, JobState.READY):
        return ""
    store = doors.store(url)
    try:
        await store.open()
        workers = await store.workers(record.tenant)
        if record.state is JobState.RUNNING:
            return who_runs(record, workers)
        paused = record.queue in await store.paused(record.tenant)
        return why_it_waits(record, workers, paused=paused)
    except GoQueueError:
        return ""  # what is known of the job itself is worth showing without it
    finally:
        await store.close()


def who_runs(record: JobRecord, workers: list[WorkerRecord]) -> str:
    """Name the process that runs it."""
    from goqueue.cli.output import ago

    one = next((worker for worker in workers if worker.id == record.worker_id), None)
    if one is None or one.left_s <= 0:
        return f"{record.worker_id} (gone: the next sweep takes its jobs away)"
    name = f"{one.name} " if one.name and one.name != one.host else ""
    return f"{name}on {one.host or 'an unknown host'}, pid {one.pid}, last heard of {ago(one.beat_at)}  ({one.id})"


def why_it_waits(record: JobRecord, workers: list[WorkerRecord], *, paused: bool) -> str:
    """Say why nobody takes a job that is due; "" if workers are there for it, and it is only not its turn yet."""
    if paused:
        return f"its queue {record.queue} is paused"
    alive = [worker for worker in workers if worker.left_s > 0 and not worker.draining]
    there = [worker for worker in alive if record.queue in worker.queues]
    if not there:
        return f"no worker takes from queue {record.queue}"
    if not any(record.kind in worker.kinds for worker in there):
        return f"no worker that takes from queue {record.queue} has a task of kind {record.kind}"
    return ""
