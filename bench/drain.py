"""`drain`: how fast a full queue is emptied, beside peers and limits, by one worker process and by two."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass

from bench import contenders, database, processes, report, stamps, turns, watching
from bench.contenders import OURS, Contender
from bench.database import Server
from bench.entrants import Field
from bench.processes import Group
from bench.report import Figure, Target, median_of
from bench.stamps import Stamps
from bench.turns import Turns

FILL_S = 300.0
JOBS_MIN = 100
WARM_UP_SHARE = 5
TARGETS: Mapping[tuple[str, int], Target] = {
    ("pgqueuer", 1): Target(least=2.1),
    ("graphile-worker", 1): Target(least=1.1),
    ("bare loop", 1): Target(least=0.7),
    ("pgqueuer", 2): Target(least=2.0),
    ("graphile-worker", 2): Target(least=1.2),
}
CPU_TARGET = Target(most=55.0)
CPU_RATIO = Target(most=0.65)
CPU_PEER = "pgqueuer"


@dataclass(frozen=True)
class Options:
    """What one call measures."""

    jobs: int
    runs: int
    process_counts: tuple[int, ...]
    timeout_s: float = 300.0


@dataclass(frozen=True)
class Filled:
    """CPU per job while the queue was filled in bulk; None where it cannot be told."""

    machine_us: float | None
    client_us: float | None
    """Of that, the process that submitted."""


@dataclass(frozen=True)
class Drained:
    """One run."""

    per_s: float
    """Jobs over the time from the first handler's begin until the store shows that none is left."""
    steady_per_s: float
    """The rate of handlers between the first and the last tenth."""
    worker_us: float | None
    machine_us: float | None
    filled: Filled
    busy_before: float

    @property
    def all_us(self) -> float | None:
        """CPU of the machine, per job, to submit it in bulk and to work on it."""
        filled_us = self.filled.machine_us
        return None if self.machine_us is None or filled_us is None else self.machine_us + filled_us

    @property
    def postgres_us(self) -> float | None:
        """What of that is neither the client's nor the worker's: the server's, and whatever else the kernel did."""
        all_us, client_us, worker_us = self.all_us, self.filled.client_us, self.worker_us
        if all_us is None or client_us is None or worker_us is None:
            return None
        return all_us - client_us - worker_us


def measure(server: Server, field: Field, options: Options) -> list[Figure]:
    """Let all take turns, for each number of processes."""
    figures: list[Figure] = []
    warm: set[str] = set()
    for count in options.process_counts:

        def run(contender: Contender, _: int, count: int = count) -> Drained:
            if contender.name not in warm:  # the page cache, and the interpreter's
                warm.add(contender.name)
                jobs = options.jobs // WARM_UP_SHARE
                drain(server, contender, options, processes_count=count, jobs=jobs, is_patient=False)
            return drain(server, contender, options, processes_count=count, jobs=options.jobs)

        taken = turns.taken(field.contenders, options.runs, server.patience, run)
        figures += [_figure(one, taken, options, count) for one in field.contenders if one.name in taken.runs]
        figures += _ratios(field, taken, count)
        figures += report.not_run("drain", {**field.absent, **taken.failures})
    return figures


def drain(
    server: Server,
    contender: Contender,
    options: Options,
    *,
    processes_count: int,
    jobs: int,
    is_patient: bool = True,
) -> Drained:
    """One run in a database of its own, of the contender's share of ``jobs``."""
    jobs = _share(contender, jobs)
    with server.database() as url, stamps.made(jobs) as made:
        environment = contender.environment(url, processes=processes_count, stamps=made)
        contenders.install(contender, url)
        fill = contender.side("fill", url, "--count", str(jobs))
        took_s = json.loads(processes.call(fill, environment=environment, timeout_s=FILL_S)) or (None, None)
        filled = Filled(*(None if one is None else one / jobs * 1e6 for one in took_s))
        database.settle_down(url)
        busy = server.patience.until_quiet() if is_patient else 0.0
        log = server.folder / f"{contender.name}.log"
        commands = contender.workers(url, processes_count)
        with processes.running(commands, environment=environment, log=log) as groups:
            return _watch(made, groups, url, contender, jobs, busy, filled, options.timeout_s)


def _share(contender: Contender, jobs: int) -> int:
    return max(min(jobs, JOBS_MIN), int(jobs * contender.share))


def _watch(
    made: Stamps,
    groups: list[Group],
    url: str,
    contender: Contender,
    jobs: int,
    busy: float,
    filled: Filled,
    timeout_s: float,
) -> Drained:
    deadline = time.monotonic() + timeout_s
    machine_before: float | None = None
    workers_before: float | None = None
    left_before = 0
    while waiting := made.waiting(0, jobs):
        if not left_before and waiting < jobs:
            machine_before, workers_before = processes.machine_busy_s(), processes.groups_busy_s(groups)
            left_before = waiting
        watching.check(groups, deadline, f"{contender.name}: {waiting} of {jobs} jobs have not begun")
        # Rarely while there is much to do, so that the watcher takes no CPU from the watched.
        time.sleep(0.05 if left_before and waiting > jobs // 20 else 0.005)
    while left := database.count(url, contender.unfinished):
        watching.check(groups, deadline, f"{contender.name}: {left} of {jobs} jobs are not finished in the store")
        time.sleep(0.005)
    ended_ns = time.monotonic_ns()
    machine_after, workers_after = processes.machine_busy_s(), processes.groups_busy_s(groups)
    begun = made.begun()
    return Drained(
        per_s=jobs / ((ended_ns - begun[0]) / 1e9),
        steady_per_s=stamps.steady_per_s(begun),
        worker_us=_per_job_us(workers_before, workers_after, left_before),
        machine_us=_per_job_us(machine_before, machine_after, left_before),
        filled=filled,
        busy_before=busy,
    )


def _per_job_us(before: float | None, after: float | None, jobs: int) -> float | None:
    return (after - before) / jobs * 1e6 if before is not None and after is not None and jobs else None


def _processes(count: int) -> str:
    return f"{count} process{'es' if count > 1 else ''}"


def _figure(contender: Contender, taken: Turns[Drained], options: Options, count: int) -> Figure:
    own = taken.runs[contender.name]
    return Figure(
        bench="drain",
        name=f"{contender.name}, {_processes(count)}",
        unit="jobs/s",
        runs=[run.per_s for run in own],
        config=f"{_share(contender, options.jobs)} no-op jobs; {contender.config}",
        more={
            "steady_per_s": median_of([run.steady_per_s for run in own]),
            "client_cpu_us": median_of([run.filled.client_us for run in own]),
            "worker_cpu_us": median_of([run.worker_us for run in own]),
            "postgres_cpu_us": median_of([run.postgres_us for run in own]),
            "machine_cpu_us": median_of([run.all_us for run in own]),
        },
        busy_before=[run.busy_before for run in own],
    )


def _ratios(field: Field, taken: Turns[Drained], count: int) -> list[Figure]:
    figures: list[Figure] = []
    ours = taken.values(OURS, lambda run: run.per_s)
    for other in field.contenders[1:]:
        name = f"{OURS} / {other.name}, {_processes(count)}"
        theirs = taken.values(other.name, lambda run: run.per_s)
        figures += report.ratio("drain", name, ours, theirs, TARGETS.get((other.name, count)))
    cpu, peers_cpu = (taken.values(name, lambda run: run.all_us) for name in (OURS, CPU_PEER))
    if count == 1 and cpu:
        name = f"{OURS}, CPU of the machine for a job: submit in bulk, work, history"
        figures.append(Figure(bench="drain", name=name, unit="µs", runs=cpu, target=CPU_TARGET))
        figures += report.ratio("drain", f"that CPU, {OURS} / {CPU_PEER}", cpu, peers_cpu, CPU_RATIO)
    return figures
