"""`drain`: how fast a full queue is emptied, beside PgQueuer."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial

from bench import contenders, database, processes, stamps, watching
from bench.contenders import Contender, GoQueueContender
from bench.database import Server
from bench.processes import Group
from bench.report import Figure, median_of
from bench.stamps import Stamps

FILL_S = 300.0
TARGET_RATIO = 1.5


@dataclass(frozen=True)
class Options:
    """What one call measures."""

    jobs: int
    runs: int
    process_counts: tuple[int, ...]
    timeout_s: float = 300.0


@dataclass(frozen=True)
class Drained:
    """One run."""

    per_s: float
    """Jobs over the time from the first handler's begin until the store shows that none is left."""
    steady_per_s: float
    """The rate of handlers between the first and the last tenth."""
    worker_us: float | None
    machine_us: float | None
    busy_before: float


def measure(server: Server, goqueue: GoQueueContender, peer: Contender | None, options: Options) -> list[Figure]:
    """Alternate the contenders for each number of processes."""
    figures: list[Figure] = []
    both: list[Contender] = [goqueue, *([peer] if peer else [])]
    for count in options.process_counts:
        runs: dict[str, list[Drained]] = {contender.name: [] for contender in both}
        for contender in both:  # warms the page cache and the interpreter's
            drain(server, contender, options, processes_count=count, jobs=max(100, options.jobs // 5))
        for contender in contenders.in_turns(both, options.runs):
            runs[contender.name].append(
                watching.on_quiet_machine(
                    partial(drain, server, contender, options, processes_count=count, jobs=options.jobs),
                    quiet_s=server.quiet_s,
                )
            )
        figures += [_figure(contender, runs, peer, options, count) for contender in both]
    return figures


def drain(server: Server, contender: Contender, options: Options, *, processes_count: int, jobs: int) -> Drained:
    """One run in a database of its own."""
    with server.database() as url, stamps.made(jobs) as made:
        environment = contender.environment(url, processes=processes_count, stamps=made)
        contenders.install(contender, url)
        processes.call(contender.side("fill", url, count=jobs), environment=environment, timeout_s=FILL_S)
        database.settle_down(url)
        busy = processes.wait_until_quiet(server.quiet_s if jobs == options.jobs else 0)
        log = server.folder / f"{contender.name}.log"
        commands = contender.workers(url, processes_count)
        with processes.running(commands, environment=environment, log=log) as groups:
            return _watch(made, groups, url, contender, jobs, busy, options.timeout_s)


def _watch(
    made: Stamps, groups: list[Group], url: str, contender: Contender, jobs: int, busy: float, timeout_s: float
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
    while left := database.rows(url, contender.table):
        watching.check(groups, deadline, f"{contender.name}: {left} of {jobs} jobs are not finished in the store")
        time.sleep(0.005)
    ended_ns = time.monotonic_ns()
    machine_after, workers_after = processes.machine_busy_s(), processes.groups_busy_s(groups)
    begun = made.begun()
    low, high = jobs // 10, jobs - jobs // 10 - 1
    return Drained(
        per_s=jobs / ((ended_ns - begun[0]) / 1e9),
        steady_per_s=(high - low) / max((begun[high] - begun[low]) / 1e9, 1e-9),
        worker_us=_per_job_us(workers_before, workers_after, left_before),
        machine_us=_per_job_us(machine_before, machine_after, left_before),
        busy_before=busy,
    )


def _per_job_us(before: float | None, after: float | None, jobs: int) -> float | None:
    return (after - before) / jobs * 1e6 if before is not None and after is not None and jobs else None


def _figure(
    contender: Contender, runs: dict[str, list[Drained]], peer: Contender | None, options: Options, count: int
) -> Figure:
    own = runs[contender.name]
    is_ours = peer is not None and contender is not peer
    rates = [run.per_s for run in own]
    ratio = None
    if peer is not None and is_ours:
        ratio = (median_of(rates) or 0) / (median_of([run.per_s for run in runs[peer.name]]) or 1)
    return Figure(
        bench="drain",
        name=f"{contender.name}, {count} process{'es' if count > 1 else ''}",
        unit="jobs/s",
        runs=rates,
        config=f"{options.jobs} no-op jobs; {contender.config}",
        peer=peer.name if peer is not None and is_ours else "",
        ratio=ratio,
        target=f"≥ {TARGET_RATIO} × {peer.name}" if peer is not None and is_ours and count == 1 else "",
        met=ratio >= TARGET_RATIO if ratio is not None and count == 1 else None,
        more={
            "steady_per_s": median_of([run.steady_per_s for run in own]),
            "worker_cpu_us_per_job": median_of([run.worker_us for run in own]),
            "machine_cpu_us_per_job": median_of([run.machine_us for run in own]),
        },
        busy_before=[run.busy_before for run in own],
    )
