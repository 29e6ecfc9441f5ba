"""`held`: jobs flow through one worker while another session holds a snapshot, so that nothing dead can be vacuumed.

`pressure` (long) is the same with more jobs and more of what can go on meanwhile, and with the peers' curves.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from bench import contenders, database, pressure, processes, report, stamps, turns, watching
from bench.contenders import OURS, Contender
from bench.database import Server
from bench.entrants import Field
from bench.pressure import CLEAN
from bench.report import Figure, Target, median_of
from bench.sides.feeding import OUTSTANDING_MAX
from bench.turns import Turns

TARGET = Target(least=0.9)
LATE_TARGET = Target(most=5_000.0)
DRAIN_S = 60.0


@dataclass(frozen=True)
class Options:
    """What one call measures: jobs of a run of ours, and the share of them and the runs that a peer gets."""

    bench: str
    jobs: int
    runs: int
    conditions: tuple[str, ...] = (CLEAN, pressure.HELD)
    peer_share: float = 0.3
    peer_runs: int = 1
    late: int = 0
    """Of our jobs, beside the others: enqueued in transactions that commit seconds later."""
    timeout_s: float = 900.0


@dataclass(frozen=True)
class Bout:
    """One contender under one condition."""

    contender: Contender
    condition: str
    jobs: int
    late: int = 0

    @property
    def name(self) -> str:
        """What its figure is called."""
        return f"{self.contender.name}, {self.condition}"


@dataclass(frozen=True)
class Flowed:
    """One run: the rates at which handlers began, over the first, all and the last tenth of the jobs."""

    first_per_s: float
    all_per_s: float
    last_per_s: float
    dead_rows: float
    late_p99_ms: float | None
    """From the commit of the late ones to their begin."""
    busy_before: float


def measure(server: Server, field: Field, options: Options) -> list[Figure]:
    """Alternate the conditions, ours first, then each peer's."""
    figures: list[Figure] = []
    for contender in field.contenders:
        is_ours = contender.name == OURS
        jobs = options.jobs if is_ours else max(1_000, int(options.jobs * options.peer_share * contender.share))
        late = options.late if is_ours else 0
        bouts = [Bout(contender, condition, jobs, late) for condition in options.conditions]
        count = options.runs if is_ours else options.peer_runs
        taken = turns.taken(bouts, count, server.patience, lambda bout, _: flow(server, bout, options.timeout_s))
        figures += [_figure(bout, taken.runs[bout.name], options) for bout in bouts if bout.name in taken.runs]
        figures += _ratios(bouts, taken, options) + _late(bouts, taken, options)
        figures += report.not_run(options.bench, taken.failures)
    return figures + report.not_run(options.bench, field.absent)


def flow(server: Server, bout: Bout, timeout_s: float) -> Flowed:
    """One run in a database of its own."""
    contender, late = bout.contender, range(bout.jobs, bout.jobs + bout.late)
    with server.database() as url, stamps.made(late.stop) as made:
        environment = contender.environment(url, stamps=made)
        contenders.install(contender, url)
        database.settle_down(url)
        busy = server.patience.until_quiet()
        meanwhile = pressure.CONDITIONS[bout.condition](url, contender.unfinished)
        log = server.folder / f"{contender.name}.log"
        producer = contender.side("flow", url, "--count", str(bout.jobs))
        with meanwhile, processes.running(contender.workers(url, 1), environment=environment, log=log) as groups:
            producers = [producer, *([_late_side(url, late)] if late else [])]
            with processes.running(producers, environment=environment, log=log) as running:
                for one in running:
                    one.wait(timeout_s)
            watching.until_begun(made, range(late.stop), groups, contender.name, DRAIN_S)
            dead = database.dead_rows(url)
        begun = sorted(made.started[: bout.jobs].tolist())
        waits = sorted(b - a for a, b in made.pairs(late.start, late.stop))
        tenth = max(2, bout.jobs // 10)
        return Flowed(
            first_per_s=_rate(begun[:tenth]),
            all_per_s=_rate(begun),
            last_per_s=_rate(begun[-tenth:]),
            dead_rows=dead,
            late_p99_ms=waits[int(len(waits) * 0.99)] / 1e6 if waits else None,
            busy_before=busy,
        )


def _late_side(url: str, numbers: range) -> list[str]:
    options = ("--first", str(numbers.start), "--count", str(len(numbers)))
    return [sys.executable, "-m", "bench.sides.late_side", url, *options]


def _rate(begun: list[int]) -> float:
    return (len(begun) - 1) / max((begun[-1] - begun[0]) / 1e9, 1e-9)


def _figure(bout: Bout, runs: list[Flowed], options: Options) -> Figure:
    return Figure(
        bench=options.bench,
        name=f"{bout.name}, last tenth",
        unit="jobs/s",
        runs=[run.last_per_s for run in runs],
        config=f"{bout.jobs} jobs, at most {OUTSTANDING_MAX} outstanding; {bout.contender.config}",
        more={
            "first_tenth_per_s": median_of([run.first_per_s for run in runs]),
            "all_per_s": median_of([run.all_per_s for run in runs]),
            "dead_rows_at_the_end": median_of([run.dead_rows for run in runs]),
        },
        busy_before=[run.busy_before for run in runs],
    )


def _ratios(bouts: Sequence[Bout], taken: Turns[Flowed], options: Options) -> list[Figure]:
    """Each condition over the clean run of the same turn."""
    figures: list[Figure] = []
    calm = taken.values(bouts[0].name, lambda run: run.last_per_s)
    for bout in bouts[1:]:
        own = taken.values(bout.name, lambda run: run.last_per_s)
        target = TARGET if bout.contender.name == OURS else None
        figures += report.ratio(options.bench, f"{bout.name} / {bouts[0].condition}, last tenth", own, calm, target)
    return figures


def _late(bouts: Sequence[Bout], taken: Turns[Flowed], options: Options) -> list[Figure]:
    figures: list[Figure] = []
    for bout in bouts:
        if waits := taken.values(bout.name, lambda run: run.late_p99_ms):
            name = f"{bout.name}, commit of a late job to its begin, p99"
            figures.append(Figure(bench=options.bench, name=name, unit="ms", runs=waits, target=LATE_TARGET))
    return figures
