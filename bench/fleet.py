"""Part of `scale` (long): how worker processes add up, what idle ones cost, and a model of more than is here.

The model is a bound from the CPU that each part takes for a job: workers add up, and PostgreSQL takes its share of a
job on however many cores it has. It knows of no locks, disks and networks, so real figures lie below it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bench import contenders, database, drain, processes, watching
from bench.contenders import OURS, GoQueueContender
from bench.database import Server
from bench.report import Figure, median_of

IDLE_WORKERS = 10
WARM_UP_S = 5.0
MODELLED = ((2, 2), (4, 4), (16, 8))
"""Worker processes, each on a core of its own, and cores of the database's server."""
MODEL = "a model, not measured"
CONNECTIONS: Final = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'goqueue'"


@dataclass(frozen=True)
class Options:
    """What one call measures: jobs of a drain, runs of each, and how long idle workers are watched."""

    jobs: int
    runs: int
    idle_s: float


@dataclass(frozen=True)
class Share:
    """CPU microseconds of a job where it is worked on."""

    worker_us: float
    postgres_us: float

    def per_s(self, workers: int, cores: int) -> float:
        """Jobs per second that so many worker processes and cores of the database allow at most."""
        return min(workers / self.worker_us, cores / self.postgres_us) * 1e6


def measure(server: Server, goqueue: GoQueueContender, options: Options) -> list[Figure]:
    """Drains by one process to as many as there are cores; the model; idle workers."""
    figures: list[Figure] = []
    share: Share | None = None
    counts = tuple(range(1, (os.cpu_count() or 1) + 1))
    drains = drain.Options(options.jobs, options.runs, counts)
    for count in counts:
        runs = [
            drain.drain(server, goqueue, drains, processes_count=count, jobs=options.jobs) for _ in range(options.runs)
        ]
        figures.append(_drained(goqueue, runs, count))
        share = share or _share(runs)
    if share is not None:
        for workers, cores in MODELLED:
            name = f"{OURS}, {workers} worker processes, a database of {cores} cores"
            rate = share.per_s(workers, cores)
            figures.append(Figure(bench="scale", name=name, unit="jobs/s at most", runs=[rate], note=MODEL))
    return [*figures, *_idle(server, goqueue, options.idle_s)]


def _drained(goqueue: GoQueueContender, runs: Sequence[drain.Drained], count: int) -> Figure:
    return Figure(
        bench="scale",
        name=f"{OURS}, a drain by {count} worker process{'es' if count > 1 else ''}",
        unit="jobs/s",
        runs=[run.per_s for run in runs],
        config=goqueue.config,
        more={
            "worker_cpu_us": median_of([run.worker_us for run in runs]),
            "machine_cpu_us": median_of([run.machine_us for run in runs]),
        },
        busy_before=[run.busy_before for run in runs],
    )


def _share(runs: Sequence[drain.Drained]) -> Share | None:
    worker, machine = median_of([run.worker_us for run in runs]), median_of([run.machine_us for run in runs])
    return Share(worker, machine - worker) if worker and machine and machine > worker else None


def _idle(server: Server, goqueue: GoQueueContender, seconds: float) -> list[Figure]:
    """CPU and memory of workers that wait."""
    with server.database() as url:
        contenders.install(goqueue, url)
        busy = server.patience.until_quiet()
        environment = goqueue.environment(url, processes=IDLE_WORKERS)
        log = server.folder / "idle.log"
        with processes.running(goqueue.workers(url, IDLE_WORKERS), environment=environment, log=log) as groups:
            watching.hold(groups, time.monotonic() + WARM_UP_S)
            machine, own = processes.machine_busy_s(), processes.groups_busy_s(groups)
            watching.hold(groups, time.monotonic() + seconds)
            machine_after, own_after = processes.machine_busy_s(), processes.groups_busy_s(groups)
            memory, connections = processes.groups_memory_bytes(groups), database.count(url, CONNECTIONS)
    if machine is None or own is None or machine_after is None or own_after is None:
        return []
    a_second = 1e3 / seconds / IDLE_WORKERS
    name = f"{OURS}, {IDLE_WORKERS} idle worker processes"
    own_ms, all_ms = (own_after - own) * a_second, (machine_after - machine) * a_second
    return [
        Figure(
            bench="scale",
            name=f"{name}, CPU of each",
            unit="ms/s",
            runs=[all_ms],
            more={"worker_ms": own_ms, "postgres_ms": max(0.0, all_ms - own_ms)},
            busy_before=[busy],
        ),
        Figure(bench="scale", name=f"{name}, memory of each", unit="MB", runs=[memory / IDLE_WORKERS / 1e6]),
        Figure(bench="scale", name=f"{name}, connections of each", unit="", runs=[connections / IDLE_WORKERS]),
    ]
