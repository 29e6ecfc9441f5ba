"""`held`: jobs flow through one worker while another session holds a snapshot, so that nothing dead can be vacuumed."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import partial

from bench import contenders, database, processes, stamps, watching
from bench.contenders import Contender, GoQueueContender
from bench.database import Server
from bench.report import Figure, median_of
from bench.sides.verbs import OUTSTANDING_MAX

TARGET_RATIO = 0.9
DRAIN_S = 60.0


@dataclass(frozen=True)
class Options:
    """What one call measures."""

    jobs: int
    runs: int
    timeout_s: float = 600.0
    with_peer: bool = False


@dataclass(frozen=True)
class Flowed:
    """One run: the rates at which handlers began, over the first, all and the last tenth of the jobs."""

    first_per_s: float
    all_per_s: float
    last_per_s: float
    dead_rows: float
    busy_before: float


def measure(server: Server, goqueue: GoQueueContender, peer: Contender | None, options: Options) -> list[Figure]:
    """Alternate clean and held runs."""
    figures: list[Figure] = []
    chosen: list[Contender] = [goqueue, *([peer] if peer is not None and options.with_peer else [])]
    for contender in chosen:
        clean: list[Flowed] = []
        held: list[Flowed] = []
        for _ in range(options.runs):
            for hold, runs in ((False, clean), (True, held)):
                one = partial(flow, server, contender, options, hold=hold)
                runs.append(watching.on_quiet_machine(one, quiet_s=server.quiet_s))
        ratio = (median_of([run.last_per_s for run in held]) or 0) / (median_of([run.last_per_s for run in clean]) or 1)
        figures += [
            _figure(contender, "clean", clean, options),
            _figure(contender, "snapshot held", held, options, ratio=ratio, is_ours=contender.name == goqueue.name),
        ]
    return figures


def flow(server: Server, contender: Contender, options: Options, *, hold: bool) -> Flowed:
    """One run in a database of its own."""
    with server.database() as url, stamps.made(options.jobs) as made:
        environment = contender.environment(url, stamps=made)
        contenders.install(contender, url)
        database.settle_down(url)
        busy = processes.wait_until_quiet(server.quiet_s)
        holding = database.snapshot_held(url) if hold else contextlib.nullcontext()
        log = server.folder / f"{contender.name}.log"
        producer = contender.side("flow", url, count=options.jobs)
        with holding, processes.running(contender.workers(url, 1), environment=environment, log=log) as groups:
            with processes.running([producer], environment=environment, log=log) as producers:
                producers[0].wait(options.timeout_s)
            watching.until_begun(made, options.jobs, groups, contender.name, DRAIN_S)
            dead = database.dead_rows(url)
        begun = made.begun()
        tenth = max(2, options.jobs // 10)
        return Flowed(
            first_per_s=_rate(begun[:tenth]),
            all_per_s=_rate(begun),
            last_per_s=_rate(begun[-tenth:]),
            dead_rows=dead,
            busy_before=busy,
        )


def _rate(begun: list[int]) -> float:
    return (len(begun) - 1) / max((begun[-1] - begun[0]) / 1e9, 1e-9)


def _figure(
    contender: Contender,
    name: str,
    runs: list[Flowed],
    options: Options,
    *,
    ratio: float | None = None,
    is_ours: bool = False,
) -> Figure:
    return Figure(
        bench="held",
        name=f"{contender.name}, {name}, last tenth",
        unit="jobs/s",
        runs=[run.last_per_s for run in runs],
        config=f"{options.jobs} jobs, at most {OUTSTANDING_MAX} outstanding; {contender.config}",
        peer="its clean run" if ratio is not None else "",
        ratio=ratio,
        target=f"≥ {TARGET_RATIO} × clean" if is_ours else "",
        met=ratio >= TARGET_RATIO if is_ours and ratio is not None else None,
        more={
            "first_tenth_per_s": median_of([run.first_per_s for run in runs]),
            "all_per_s": median_of([run.all_per_s for run in runs]),
            "dead_rows_at_the_end": median_of([run.dead_rows for run in runs]),
        },
        busy_before=[run.busy_before for run in runs],
    )
