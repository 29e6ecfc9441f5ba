"""`memory` (long): what a worker with 1,000 running jobs and a server under 256 connections hold, and if it grows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench import contenders, http, processes, report, stamps, watching
from bench.contenders import OURS, GoQueueContender
from bench.database import Server
from bench.processes import Group
from bench.report import Figure, Target

PARTS = 10
RUNNING = 1_000
CONNECTIONS = 256
START_S = 60.0
KEPT = Target(most=1.1)


@dataclass(frozen=True)
class Options:
    """What one call measures, and for how long each."""

    seconds: float


def measure(server: Server, goqueue: GoQueueContender, options: Options) -> list[Figure]:
    """The worker, then the server."""
    return [*_worker(server, goqueue, options), *_server(server, goqueue, options)]


def _worker(server: Server, goqueue: GoQueueContender, options: Options) -> list[Figure]:
    napping = replace(goqueue, module="napping_side", concurrency=RUNNING)
    # A job takes a second: this is more than can begin in that time.
    jobs = int((options.seconds + START_S) * RUNNING)
    with server.database() as url, stamps.made(jobs) as made:
        environment = napping.environment(url, stamps=made)
        contenders.install(napping, url)
        busy = server.patience.until_quiet()
        log = server.folder / "napping.log"
        flow = napping.side("flow", url, "--count", str(jobs))
        with (
            processes.running(napping.workers(url, 1), environment=environment, log=log) as groups,
            processes.running([flow], environment=environment, log=log) as feeding,
        ):
            watching.until_begun(made, range(RUNNING), [*groups, *feeding], napping.name, START_S)
            sizes = _sampled(groups, [*groups, *feeding], options.seconds)
    return _figures(f"a worker with {RUNNING:,} running jobs", sizes, f"jobs of 1 s; {napping.config}", busy)


def _server(server: Server, goqueue: GoQueueContender, options: Options) -> list[Figure]:
    one = http.GoQueueServer(goqueue)
    with server.database() as url, http.up(server, one, url) as (port, groups):
        busy = server.patience.until_quiet()
        load = http.load_command("closed", port, options.seconds + START_S, CONNECTIONS)
        with processes.running([load], environment={}, log=server.folder / "load.log") as loading:
            sizes = _sampled(groups, [*groups, *loading], options.seconds)
    return _figures(f"a server under {CONNECTIONS} connections", sizes, f"closed loop; {one.config}", busy)


def _sampled(measured: Sequence[Group], alive: Sequence[Group], seconds: float) -> list[float]:
    """Megabytes at the end of each part of the time."""
    sizes: list[float] = []
    ends = time.monotonic()
    for _ in range(PARTS):
        ends += seconds / PARTS
        watching.hold(alive, ends)
        sizes.append(processes.groups_memory_bytes(measured) / 1e6)
    return sizes


def _figures(what: str, sizes: list[float], config: str, busy: float) -> list[Figure]:
    name = f"{OURS}, {what}"
    row = Figure(bench="memory", name=name, unit="MB", runs=sizes, config=config, busy_before=[busy])
    return [row, *report.ratio("memory", f"{name}, last tenth / second", sizes[-1:], sizes[1:2], KEPT)]
