"""`steady` (long): minutes of submit and work at once, at 80 % of capacity: is it as fast at the end, and as small?

Each minute: the rate, how long jobs waited, the size of tables and indexes, dead rows, what a job costs in WAL and
commits, and the memory of the worker. Flat from the second minute on is what is wanted.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench import contenders, database, processes, report, stamps, watching
from bench.contenders import OURS, GoQueueContender
from bench.database import Server, Totals
from bench.processes import Group
from bench.report import Figure, Target
from bench.stamps import Stamps

SHARE = 0.8
PARTS = 10
START_S = 120.0
RATE_KEPT = Target(least=0.95)
WAIT_KEPT = Target(most=2.0)
SIZE_KEPT = Target(most=1.5)
MEMORY_KEPT = Target(most=1.1)


@dataclass(frozen=True)
class Options:
    """What one call measures."""

    seconds: float
    flow: int
    """The jobs that find the capacity."""


@dataclass(frozen=True)
class Part:
    """A tenth of the time."""

    per_s: float
    """Of the jobs that began in it, whenever they were sent."""
    behind: int
    """Sent by its end, and not begun."""
    p50_ms: float
    """Of those that were sent in it and have begun, as p99."""
    p99_ms: float
    totals: Totals
    """At its end."""
    jobs: int
    memory_bytes: int
    cpu_us: float | None
    """Of the machine, per job, client included."""


def measure(server: Server, goqueue: GoQueueContender, options: Options) -> list[Figure]:
    """One run."""
    slots = options.flow + int(options.seconds * 100_000)
    with server.database() as url, stamps.made(slots) as made:
        environment = goqueue.environment(url, stamps=made)
        contenders.install(goqueue, url)
        busy = server.patience.until_quiet()
        log = server.folder / f"{goqueue.name}.log"
        with processes.running(goqueue.workers(url, 1), environment=environment, log=log) as groups:
            flow = goqueue.side("flow", url, "--count", str(options.flow))
            processes.call(flow, environment=environment, timeout_s=START_S)
            watching.until_begun(made, range(options.flow), groups, goqueue.name, START_S)
            capacity = stamps.steady_per_s(made.started[: options.flow].tolist())
            numbers = ("--first", str(options.flow), "--count", str(slots - options.flow))
            pace = goqueue.side("pace", url, *numbers, "--per-s", str(capacity * SHARE))
            with processes.running([pace], environment=environment, log=log) as paced:
                parts = _watch(url, made, options, [*groups, *paced], groups)
    return _figures(parts, capacity, goqueue, busy)


def _watch(url: str, made: Stamps, options: Options, alive: list[Group], workers: list[Group]) -> list[Part]:
    parts: list[Part] = []
    first = oldest = options.flow
    behind = 0
    before, cpu_before = database.totals(url), processes.machine_busy_s()
    ends = time.monotonic()
    for _ in range(PARTS):
        ends += options.seconds / PARTS
        watching.hold(alive, ends)
        stop = made.first_unsent(first)
        waits = sorted(b - a for a, b in made.pairs(first, stop) if b)
        left = made.waiting(oldest, stop)
        began, behind = behind + stop - first - left, left
        oldest = oldest if behind else stop
        after, cpu_after = database.totals(url), processes.machine_busy_s()
        cpu = None if cpu_before is None or cpu_after is None else (cpu_after - cpu_before) / max(began, 1) * 1e6
        parts.append(
            Part(
                per_s=began / (options.seconds / PARTS),
                behind=behind,
                p50_ms=waits[len(waits) // 2] / 1e6 if waits else 0.0,
                p99_ms=waits[int(len(waits) * 0.99)] / 1e6 if waits else 0.0,
                totals=after.since(before),
                jobs=max(began, 1),
                memory_bytes=processes.groups_memory_bytes(workers),
                cpu_us=cpu,
            )
        )
        first, before, cpu_before = stop, after, cpu_after
    return parts


def _figures(parts: Sequence[Part], capacity: float, goqueue: GoQueueContender, busy: float) -> list[Figure]:
    second, last = parts[1], parts[-1]
    config = f"{SHARE:.0%} of a capacity of {capacity:,.0f} jobs/s; runs are tenths of the time; {goqueue.config}"

    def row(name: str, unit: str, values: Sequence[float | None]) -> Figure:
        known = [value for value in values if value is not None]
        return Figure(bench="steady", name=name, unit=unit, runs=known, config=config, busy_before=[busy])

    rows = [
        row("throughput", "jobs/s", [part.per_s for part in parts]),
        row("sent and not begun", "", [part.behind for part in parts]),
        row("submit to begin, p50", "ms", [part.p50_ms for part in parts]),
        row("submit to begin, p99", "ms", [part.p99_ms for part in parts]),
        row("hot table", "MB", [part.totals.table_bytes / 1e6 for part in parts]),
        row("its indexes", "MB", [part.totals.index_bytes / 1e6 for part in parts]),
        row("dead rows", "", [part.totals.dead_rows for part in parts]),
        row("WAL a job", "bytes", [part.totals.wal_bytes / part.jobs for part in parts]),
        row("commits a job", "", [part.totals.commits / part.jobs for part in parts]),
        row("memory of the worker", "MB", [part.memory_bytes / 1e6 for part in parts]),
        row("CPU of the machine a job", "µs", [part.cpu_us for part in parts]),
    ]
    kept = [
        ("throughput", last.per_s, second.per_s, RATE_KEPT),
        ("p99", last.p99_ms, second.p99_ms, WAIT_KEPT),
        ("hot table", last.totals.table_bytes, second.totals.table_bytes, SIZE_KEPT),
        ("memory", last.memory_bytes, second.memory_bytes, MEMORY_KEPT),
    ]
    for name, then, once, target in kept:
        rows += report.ratio("steady", f"{OURS}, {name}, last tenth / second", [then], [once], target)
    return rows
