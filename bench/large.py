"""`ahead` and `scale` (long): what a store costs that is large: many jobs scheduled, waiting elsewhere, many queues.

Rows beyond those of the runs are copies of one job that a client has enqueued, made by one statement.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

import msgspec

from bench import contenders, database, pickup, processes, report, stamps
from bench.contenders import OURS, GoQueueContender
from bench.database import Copies, Server
from bench.report import Figure, Target

CALL_S = 600.0
BATCH = 500
ELSEWHERE = "elsewhere"
A_DAY_S = 86_400.0
PICKUP_KEPT = Target(most=1.5)
FLAT = Target(least=0.8)
PRIORITIES = 10
QUEUE_JOBS = 100_000
"""Jobs in all, where queues are many."""
QUEUES = (1, 100, 1_000, 10_000)
BATCHES = (1, 10, 100)
"""Smaller than the usual ones: what a job costs where many workers have little to do each."""


@dataclass(frozen=True)
class AheadOptions:
    """What one call of `ahead` measures: jobs scheduled ahead, a backlog in another queue, jobs to pick up."""

    scheduled: int
    backlog: int
    jobs: int
    seed: int


@dataclass(frozen=True)
class ScaleOptions:
    """What one call of `scale` measures: the depths of a queue, and how many claims at each."""

    depths: tuple[int, ...]
    claims: int


class Claims(msgspec.Struct):
    """What `bench.sides.claims_side` prints."""

    jobs: int
    per_s: float
    p50_ms: float
    max_ms: float
    own_us: float
    machine_us: float | None


def ahead(server: Server, goqueue: GoQueueContender, options: AheadOptions) -> list[Figure]:
    """Pick-up on an empty store, with many scheduled ahead, with a backlog in a queue that nobody works on."""
    cases = {
        "an empty store": Copies(0),
        f"{options.scheduled:,} scheduled ahead": Copies(options.scheduled, ahead_s=A_DAY_S),
        f"a backlog of {options.backlog:,} elsewhere": Copies(options.backlog, queue=ELSEWHERE),
    }
    figures: list[Figure] = []
    empty: pickup.Picked | None = None
    for name, copies in cases.items():
        picked, memory_bytes = _picked(server, goqueue, copies, options)
        empty = empty or picked
        for percentile, value in pickup.PERCENTILES.items():
            row = f"{OURS}, {name}, {percentile}"
            config = f"{options.jobs} jobs, one every 20 to 50 ms; {goqueue.config}"
            busy = [picked.busy_before]
            figures.append(
                Figure(bench="ahead", name=row, unit="ms", runs=[value(picked)], config=config, busy_before=busy)
            )
        row, sizes = f"{OURS}, {name}, memory of the worker", [memory_bytes / 1e6]
        figures.append(Figure(bench="ahead", name=row, unit="MB", runs=sizes))
        if picked is not empty:
            ratio = f"{OURS}, {name} / an empty store, p50"
            figures += report.ratio("ahead", ratio, [picked.p50_ms], [empty.p50_ms], PICKUP_KEPT)
    return figures


def _picked(
    server: Server, goqueue: GoQueueContender, copies: Copies, options: AheadOptions
) -> tuple[pickup.Picked, int]:
    """One run, and the memory of its worker at its end."""
    numbers = range(1, 1 + pickup.WARM_UP + options.jobs)  # job 0 is what the copies are made of
    with server.database() as url, stamps.made(numbers.stop) as made:
        environment = goqueue.environment(url, stamps=made)
        contenders.install(goqueue, url)
        _fill(goqueue, url, copies)
        busy = server.patience.until_quiet()
        log = server.folder / f"{goqueue.name}.log"
        with processes.running(goqueue.workers(url, 1), environment=environment, log=log) as groups:
            pickup.trickle(goqueue, url, made, groups, numbers, options.seed)
            return pickup.picked(made, numbers, busy), processes.groups_memory_bytes(groups)


def scale(server: Server, goqueue: GoQueueContender, options: ScaleOptions) -> list[Figure]:
    """What a claim of a batch costs against the depth of the queue, and against the number of queues."""
    figures: list[Figure] = []
    shallow: Claims | None = None
    for depth in options.depths:
        batch = min(BATCH, max(1, depth // (options.claims + 10)))
        found, busy = _claims(server, goqueue, Copies(depth, queues=1, priorities=PRIORITIES), batch, options.claims)
        figures.append(_row(f"a queue of {depth:,}, {PRIORITIES} priorities", found, batch, busy))
        if batch == BATCH:  # smaller ones cost more a job
            if shallow is not None:
                name = f"{OURS}, a queue of {depth:,} / the first with batches of {batch}"
                figures += report.ratio("scale", name, [found.per_s], [shallow.per_s], FLAT)
            shallow = shallow or found
    depth = min(QUEUE_JOBS, max(options.depths))
    for batch in BATCHES:
        found, busy = _claims(server, goqueue, Copies(depth), batch, options.claims * 10)
        figures.append(_row(f"batches of {batch}", found, batch, busy))
    for queues in QUEUES:
        batch = min(BATCH, max(1, depth // (options.claims + 10)))
        found, busy = _claims(server, goqueue, Copies(depth, queues=min(queues, depth)), batch, options.claims)
        figures.append(_row(f"{queues:,} queues, {depth:,} jobs", found, batch, busy))
    return figures


def _claims(server: Server, goqueue: GoQueueContender, copies: Copies, batch: int, count: int) -> tuple[Claims, float]:
    with server.database() as url:
        contenders.install(goqueue, url)
        _fill(goqueue, url, copies)
        busy = server.patience.until_quiet()
        command = [sys.executable, "-m", "bench.sides.claims_side", url, "--queues", str(copies.queues)]
        command += ["--batch", str(batch), "--count", str(count)]
        printed = processes.call(command, environment=goqueue.environment(url), timeout_s=CALL_S)
    return msgspec.convert(json.loads(printed), Claims), busy


def _fill(goqueue: GoQueueContender, url: str, copies: Copies) -> None:
    if copies.count:
        fill = goqueue.side("fill", url, "--count", "1")
        processes.call(fill, environment=goqueue.environment(url), timeout_s=CALL_S)
        database.copy_job(url, copies)
    database.settle_down(url)


def _row(name: str, found: Claims, batch: int, busy: float) -> Figure:
    postgres_us = None if found.machine_us is None else found.machine_us - found.own_us
    return Figure(
        bench="scale",
        name=f"{OURS}, {name}",
        unit="jobs/s",
        runs=[found.per_s],
        config="the store by itself: settle of a batch and claim of the next in one call",
        more={
            "batch": batch,
            "claim_p50_ms": found.p50_ms,
            "claim_max_ms": found.max_ms,
            "jobs": found.jobs,
            "own_cpu_us_per_job": found.own_us,
            "postgres_cpu_us_per_job": postgres_us,
        },
        busy_before=[busy],
    )
