"""What there is to measure, at which size, beside whom, and about how long it takes."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import cached_property

from bench import drain, entrants, fleet, held, http, large, memory, pairs, peers, pickup, pressure, steady, submit
from bench.contenders import GoQueueContender, find_goqueue
from bench.database import Server
from bench.entrants import Field
from bench.peers import Missing
from bench.report import Figure

BULK = 10_000
LEVELS = (0.2, 0.5, 0.8)


class Kitchen:
    """All that the command line says, ready to be measured."""

    def __init__(self, server: Server, options: argparse.Namespace) -> None:
        self.server = server
        self.options = options
        self.runs: int = options.runs
        self.jobs: int | None = options.jobs
        self.goqueue = GoQueueContender(
            find_goqueue(options.goqueue), options.concurrency, options.prefetch, dict(options.set)
        )

    @cached_property
    def field(self) -> Field:
        """GoQueue, and all peers and limits that are wanted and can be here."""
        names = () if self.options.no_peers else tuple(self.options.peers or entrants.ALL)
        return entrants.field_of(self.goqueue, names, self.options.batch)

    @cached_property
    def without_raw(self) -> Field:
        """Those who wait for jobs: raw SQL does not."""
        return Field([one for one in self.field.contenders if one.name != "raw SQL"], self.field.absent)

    def submits(self) -> list[Figure]:
        """See `bench.submit`."""
        jobs = self.jobs
        bulks = (jobs,) if jobs else (BULK, 10 * BULK)
        return submit.measure(self.server, self.field, submit.Options(jobs or 2_000, jobs or 6_000, bulks, self.runs))

    def drains(self) -> list[Figure]:
        """See `bench.drain`."""
        options = drain.Options(self.jobs or 50_000, self.runs, tuple(self.options.processes))
        return drain.measure(self.server, self.field, options)

    def serves(self) -> list[Figure]:
        """See `bench.http`."""
        seconds: float = self.options.seconds or 10.0
        options = http.Options(self.runs, self.options.per_s, seconds, seconds / 2, min(2.0, seconds / 4))
        try:
            python = None if self.options.no_peers else peers.place("limits").python
        except Missing:
            python = None
        return http.measure(self.server, self.goqueue, python, options)

    def picks_up(self) -> list[Figure]:
        """See `bench.pickup`."""
        flow = min(30_000, (self.jobs or 150) * 200)
        options = pickup.Options(self.jobs or 150, self.runs, self.options.seed, LEVELS, flow)
        return pickup.measure(self.server, self.without_raw, options)

    def holds(self) -> list[Figure]:
        """See `bench.held`; GoQueue alone, as a peer's collapse takes long."""
        return held.measure(self.server, self.field.only(), held.Options("held", self.jobs or 500_000, self.runs))

    def presses(self) -> list[Figure]:
        """See `bench.held`: all conditions, and the peers that keep up at all."""
        field = self.field.only("pgqueuer", "graphile-worker", "bare loop")
        options = held.Options("pressure", self.jobs or 1_000_000, self.runs, tuple(pressure.CONDITIONS), late=100)
        return held.measure(self.server, field, options)

    def keeps_on(self) -> list[Figure]:
        """See `bench.steady`."""
        seconds: float = self.options.seconds or 600.0
        options = steady.Options(seconds, flow=min(50_000, (self.jobs or 50_000)))
        return steady.measure(self.server, self.goqueue, options)

    def looks_ahead(self) -> list[Figure]:
        """See `bench.large`."""
        jobs = self.jobs
        options = large.AheadOptions(jobs or 10_000_000, jobs or 5_000_000, min(jobs or 300, 300), self.options.seed)
        return large.ahead(self.server, self.goqueue, options)

    def scales(self) -> list[Figure]:
        """See `bench.large` and `bench.fleet`."""
        depths = tuple(10**power for power in range(3, 8) if 10**power <= (self.jobs or 10**7))
        workers = fleet.Options(self.jobs or 50_000, self.runs, self.options.seconds or 30.0)
        return [
            *fleet.measure(self.server, self.goqueue, workers),
            *large.scale(self.server, self.goqueue, large.ScaleOptions(depths, claims=40)),
        ]

    def holds_memory(self) -> list[Figure]:
        """See `bench.memory`."""
        return memory.measure(self.server, self.goqueue, memory.Options(self.options.seconds or 300.0))

    def pairs(self) -> list[Figure]:
        """See `bench.pairs`."""
        jobs = self.jobs
        options = pairs.Options(
            self.options.against, self.runs, jobs or 50_000, min(jobs or 300, 300), self.options.seed
        )
        return pairs.measure(self.server, self.goqueue, options)


SHORT: Mapping[str, Callable[[Kitchen], list[Figure]]] = {
    "drain": Kitchen.drains,
    "submit": Kitchen.submits,
    "http": Kitchen.serves,
    "pickup": Kitchen.picks_up,
    "held": Kitchen.holds,
}
LONG: Mapping[str, Callable[[Kitchen], list[Figure]]] = {
    "steady": Kitchen.keeps_on,
    "pressure": Kitchen.presses,
    "ahead": Kitchen.looks_ahead,
    "scale": Kitchen.scales,
    "memory": Kitchen.holds_memory,
}
ALL: Mapping[str, Callable[[Kitchen], list[Figure]]] = {**SHORT, **LONG, "pairs": Kitchen.pairs}

_MINUTES_A_RUN = {"drain": 3.0, "submit": 1.5, "http": 1.5, "pickup": 6.0, "held": 1.0, "pressure": 8.0, "pairs": 1.0}
"""On two quiet cores, at the sizes above, with all peers."""
_MINUTES_ALWAYS = {"steady": 11.0, "ahead": 10.0, "scale": 10.0, "memory": 11.0}


def minutes(names: tuple[str, ...], options: argparse.Namespace) -> float:
    """About how long these take, beside the installation of peers and the waits for a quiet machine."""
    runs: int = options.runs
    return sum(_MINUTES_ALWAYS.get(name, 0.0) + _MINUTES_A_RUN.get(name, 0.0) * runs for name in names)
