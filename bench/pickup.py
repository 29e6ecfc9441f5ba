"""`pickup`: from before a job is enqueued on an idle queue to the begin of its handler, beside PgQueuer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from bench import contenders, processes, stamps, watching
from bench.contenders import Contender, GoQueueContender
from bench.database import Server
from bench.report import Figure, median_of
from bench.stamps import Stamps

WARM_UP = 40
LAST_JOB_S = 30.0
JOB_S = 0.2
"""Far more than one job of the trickle takes."""
START_S = 120.0
TARGET_P50_MS = 3.0


@dataclass(frozen=True)
class Options:
    """What one call measures."""

    jobs: int
    runs: int
    seed: int


@dataclass(frozen=True)
class Picked:
    """One run, in milliseconds."""

    p50_ms: float
    p99_ms: float
    max_ms: float
    busy_before: float


def measure(server: Server, goqueue: GoQueueContender, peer: Contender | None, options: Options) -> list[Figure]:
    """Alternate the contenders."""
    both: list[Contender] = [goqueue, *([peer] if peer else [])]
    runs: dict[str, list[Picked]] = {contender.name: [] for contender in both}
    for number, contender in enumerate(contenders.in_turns(both, options.runs)):
        # The same spacing for all contenders of a turn.
        seed = options.seed + number // len(both)
        picked = watching.on_quiet_machine(
            partial(pick_up, server, contender, options.jobs, seed), quiet_s=server.quiet_s
        )
        runs[contender.name].append(picked)
    return [figure for contender in both for figure in _figures(contender, runs, peer, options)]


def pick_up(server: Server, contender: Contender, jobs: int, seed: int) -> Picked:
    """One run in a database of its own."""
    total = jobs + WARM_UP
    with server.database() as url, stamps.made(total) as made:
        environment = contender.environment(url, stamps=made)
        contenders.install(contender, url)
        busy = processes.wait_until_quiet(server.quiet_s)
        log = server.folder / f"{contender.name}.log"
        with processes.running(contender.workers(url, 1), environment=environment, log=log) as groups:
            processes.call(
                contender.side("trickle", url, count=total, seed=seed),
                environment=environment,
                timeout_s=START_S + total * JOB_S,
            )
            watching.until_begun(made, total, groups, contender.name, LAST_JOB_S)
            return _picked(made, total, busy)


def _picked(made: Stamps, total: int, busy: float) -> Picked:
    waits = sorted((made.started[i] - made.sent[i]) / 1e6 for i in range(WARM_UP, total))
    return Picked(
        p50_ms=waits[len(waits) // 2], p99_ms=waits[int(len(waits) * 0.99)], max_ms=waits[-1], busy_before=busy
    )


def _figures(
    contender: Contender, runs: dict[str, list[Picked]], peer: Contender | None, options: Options
) -> list[Figure]:
    own = runs[contender.name]
    versus = runs[peer.name] if peer is not None and contender is not peer else []
    config = f"{options.jobs} jobs, one every 20 to 50 ms; {contender.config}"
    more = {"max_ms": max(run.max_ms for run in own)}
    figures = []
    for percentile in ("p50", "p99"):
        values = [_of(run, percentile) for run in own]
        value = median_of(values) or 0
        reference = median_of([_of(run, percentile) for run in versus])
        has_target = percentile == "p50" and contender.name == "goqueue"
        figures.append(
            Figure(
                bench="pickup",
                name=f"{contender.name} {percentile}",
                unit="ms",
                runs=values,
                config=config,
                peer=peer.name if peer is not None and reference is not None else "",
                ratio=value / reference if reference else None,
                target=f"< {TARGET_P50_MS} ms" if has_target else "",
                met=value < TARGET_P50_MS if has_target else None,
                more=more,
                busy_before=[run.busy_before for run in own],
            )
        )
    return figures


def _of(run: Picked, percentile: str) -> float:
    return run.p50_ms if percentile == "p50" else run.p99_ms
