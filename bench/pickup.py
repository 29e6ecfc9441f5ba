"""`pickup`: from before a job is enqueued to the begin of its handler, beside peers: idle, and under a steady load.

The capacity of which the load is a share is each contender's own: the rate at which its one worker process begins
jobs that its own client submits in bulk at the same time. The jobs that are measured come one by one on top of it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from bench import contenders, processes, report, stamps, turns, watching
from bench.contenders import OURS, Contender
from bench.database import Server
from bench.entrants import Field
from bench.processes import Failed, Group
from bench.report import Figure, Target, median_of
from bench.stamps import Stamps
from bench.turns import Turns

IDLE = "idle"
WARM_UP = 40
LAST_JOB_S = 30.0
JOB_S = 0.2
"""Far more than one job of the trickle takes."""
START_S = 120.0
TARGET_P50 = Target(most=3.0)
TARGETS: Mapping[tuple[str, str], Target] = {
    ("bare loop", "p50"): Target(most=1.1),
    ("bare loop", "p99"): Target(most=1.4),
}
BELOW_PEERS = Target(most=1.0)


@dataclass(frozen=True)
class Options:
    """What one call measures. ``levels``: shares of capacity; ``flow``: the jobs that find the capacity."""

    jobs: int
    runs: int
    seed: int
    levels: tuple[float, ...] = ()
    flow: int = 30_000


@dataclass(frozen=True)
class Picked:
    """One run, in milliseconds."""

    p50_ms: float
    p99_ms: float
    max_ms: float
    busy_before: float
    load_per_s: float = 0.0
    """The rate that the load reached."""
    load_behind: float = 0.0
    """The share of the load that could not be submitted in its time."""


@dataclass(frozen=True)
class Loaded:
    """One contender's runs under its loads."""

    capacity_per_s: float
    levels: Mapping[float, Picked]
    busy_before: float


def measure(server: Server, field: Field, options: Options) -> list[Figure]:
    """Let all take turns; the same spacing for all contenders of a turn."""
    real = field.contenders
    idle = turns.taken(
        real, options.runs, server.patience, lambda who, turn: pick_up(server, who, options.jobs, options.seed + turn)
    )
    figures = _level(field, idle, options, IDLE)
    if options.levels:
        loaded = turns.taken(
            real, options.runs, server.patience, lambda who, turn: under_load(server, who, options, turn)
        )
        figures += [_capacity(one, loaded.runs[one.name], options) for one in real if one.name in loaded.runs]
        for level in options.levels:
            all_runs = {name: [run.levels.get(level) for run in runs] for name, runs in loaded.runs.items()}
            runs = {name: [run for run in found if run is not None] for name, found in all_runs.items()}
            figures += _level(
                field, Turns({name: found for name, found in runs.items() if found}), options, f"{level:.0%}"
            )
            behind = {f"{name}, {level:.0%}": "it fell behind at less" for name, found in runs.items() if not found}
            figures += report.not_run("pickup", behind)
        idle.failures.update(loaded.failures)
    return figures + report.not_run("pickup", {**field.absent, **idle.failures})


def pick_up(server: Server, contender: Contender, jobs: int, seed: int) -> Picked:
    """One run on an idle queue, in a database of its own."""
    numbers = range(jobs + WARM_UP)
    with _worker(server, contender, len(numbers)) as (url, made, groups, busy):
        trickle(contender, url, made, groups, numbers, seed)
        return picked(made, numbers, busy)


def under_load(server: Server, contender: Contender, options: Options, turn: int) -> Loaded:
    """Find the capacity, then pick up at each level, all with one worker on one database.

    The levels end where the load was so much that what it left is not worked off in `LAST_JOB_S`.
    """
    flow = max(1_000, int(options.flow * contender.share))
    each = options.jobs + WARM_UP
    # As many as the load can have sent before the last of its measured jobs, at most.
    loads = options.flow * 2 + int(each * JOB_S) * 20_000
    with _worker(server, contender, flow + len(options.levels) * (each + loads)) as (url, made, groups, busy):
        environment = contender.environment(url, stamps=made)
        command = contender.side("flow", url, "--count", str(flow))
        processes.call(command, environment=environment, timeout_s=START_S + LAST_JOB_S)
        watching.until_begun(made, range(flow), groups, contender.name, LAST_JOB_S)
        capacity = stamps.steady_per_s(made.started[:flow].tolist())
        first = flow
        levels: dict[float, Picked] = {}
        for level in options.levels:
            numbers, load = range(first, first + each), range(first + each, first + each + loads)
            first = load.stop
            rate = str(capacity * level)
            pace = contender.side("pace", url, "--first", str(load.start), "--count", str(loads), "--per-s", rate)
            log = server.folder / f"{contender.name}-pace.log"
            with processes.running([pace], environment=environment, log=log) as paced:
                trickle(contender, url, made, groups, numbers, options.seed + turn)
                paced[0].require_alive()
            sent = [instant for instant in made.sent[load.start : load.stop].tolist() if instant]
            levels[level] = picked(made, numbers, busy, sent, capacity * level)
            try:
                watching.until_begun(made, load[: len(sent)], groups, contender.name, LAST_JOB_S)
            except Failed as error:
                print(f"bench: at {level:.0%} {error}", file=sys.stderr, flush=True)
                break
    return Loaded(capacity, levels, busy)


@contextlib.contextmanager
def _worker(server: Server, contender: Contender, slots: int) -> Iterator[tuple[str, Stamps, list[Group], float]]:
    """One worker process on an empty database: its url, the stamps, its group, how busy the machine was before."""
    contender = contender.for_latency
    with server.database() as url, stamps.made(slots) as made:
        environment = contender.environment(url, stamps=made)
        contenders.install(contender, url)
        busy = server.patience.until_quiet()
        log = server.folder / f"{contender.name}.log"
        with processes.running(contender.workers(url, 1), environment=environment, log=log) as groups:
            yield url, made, groups, busy


def trickle(contender: Contender, url: str, made: Stamps, groups: list[Group], numbers: range, seed: int) -> None:
    """Enqueue these jobs one by one, and wait until the last has begun."""
    count = len(numbers)
    command = contender.side("trickle", url, "--first", str(numbers.start), "--count", str(count), "--seed", str(seed))
    environment = contender.environment(url, stamps=made)
    processes.call(command, environment=environment, timeout_s=START_S + count * JOB_S)
    watching.until_begun(made, numbers, groups, contender.name, LAST_JOB_S)


def picked(made: Stamps, numbers: range, busy: float, sent: list[int] | None = None, asked_per_s: float = 0) -> Picked:
    """What the stamps say of them, but for the first `WARM_UP`."""
    waits = sorted((made.started[i] - made.sent[i]) / 1e6 for i in numbers[WARM_UP:])
    reached = (len(sent) - 1) / max((sent[-1] - sent[0]) / 1e9, 1e-9) if sent and len(sent) > 1 else 0.0
    if asked_per_s and not reached:
        raise Failed("the load sent no jobs")
    return Picked(
        p50_ms=waits[len(waits) // 2],
        p99_ms=waits[int(len(waits) * 0.99)],
        max_ms=waits[-1],
        busy_before=busy,
        load_per_s=reached,
        load_behind=max(0.0, 1 - reached / asked_per_s) if asked_per_s else 0.0,
    )


def _config(contender: Contender, options: Options) -> str:
    return f"{options.jobs} jobs, one every 20 to 50 ms, idle or beside a load; {contender.for_latency.config}"


def _capacity(contender: Contender, runs: list[Loaded], options: Options) -> Figure:
    return Figure(
        bench="pickup",
        name=f"{contender.name}, capacity",
        unit="jobs/s",
        runs=[run.capacity_per_s for run in runs],
        config=_config(contender, options),
        busy_before=[run.busy_before for run in runs],
    )


PERCENTILES: Mapping[str, Callable[[Picked], float]] = {"p50": lambda run: run.p50_ms, "p99": lambda run: run.p99_ms}


def _level(field: Field, taken: Turns[Picked], options: Options, level: str) -> list[Figure]:
    """All at one level; on an idle queue also our ratios, which have targets."""
    figures: list[Figure] = []
    for percentile, value in PERCENTILES.items():
        ran = [one for one in field.contenders if one.name in taken.runs]
        figures += [_figure(one, taken.runs[one.name], percentile, options, level) for one in ran]
        for other in ran[1:] if level == IDLE else ():
            target = TARGETS.get((other.name, percentile)) if other.is_limit else BELOW_PEERS
            ours, theirs = (taken.values(name, value) for name in (OURS, other.name))
            figures += report.ratio("pickup", f"{OURS} / {other.name}, {level}, {percentile}", ours, theirs, target)
    return figures


def _figure(contender: Contender, own: list[Picked], percentile: str, options: Options, level: str) -> Figure:
    more: dict[str, float | None] = {"max_ms": max(run.max_ms for run in own)} if percentile == "p99" else {}
    if level != IDLE and percentile == "p50":
        more["load_per_s"] = median_of([run.load_per_s for run in own])
        more["load_behind"] = median_of([run.load_behind for run in own])
    has_target = (contender.name, level, percentile) == (OURS, IDLE, "p50")
    return Figure(
        bench="pickup",
        name=f"{contender.name}, {level}, {percentile}",
        unit="ms",
        runs=[PERCENTILES[percentile](run) for run in own],
        config=_config(contender, options),
        target=TARGET_P50 if has_target else None,
        more=more,
        busy_before=[run.busy_before for run in own],
    )
