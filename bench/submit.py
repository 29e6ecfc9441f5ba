"""`submit`: how fast jobs are stored through a client's own library, beside peers and limits.

One caller, each job a call; several callers in one process; many jobs in a call: 1,000, or all where the library makes
statements of them by itself, as ours does. HTTP is the bench `http`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from bench import contenders, processes, report, turns
from bench.contenders import OURS, Contender
from bench.database import Server
from bench.entrants import Field
from bench.report import Figure, Target, median_of
from bench.sides.feeding import CHUNK
from bench.turns import Turns

CALLERS = 16
ONE = "one by one"
MANY = f"{CALLERS} callers"
CALL_S = 300.0
BULK_MIN = 5_000
"""A slow contender's share of a bulk is not made smaller than this."""
TARGETS: Mapping[tuple[str, str], Target] = {
    (ONE, "bare loop"): Target(least=0.9),
    ("bulk", "bare loop"): Target(least=0.8),
}
CALLERS_TARGET = Target(least=2.0)


@dataclass(frozen=True)
class Options:
    """What one call measures: how many jobs one by one, by several callers, and in bulk."""

    one: int
    callers: int
    bulks: tuple[int, ...]
    runs: int


class Submitted(msgspec.Struct):
    """What a side prints: jobs a second, and how long a call took."""

    per_s: float
    p50_ms: float
    p99_ms: float
    p999_ms: float


@dataclass(frozen=True)
class Run:
    """One run of one contender: what was submitted how, and how fast."""

    found: Mapping[str, Submitted]
    busy_before: float


def measure(server: Server, field: Field, options: Options) -> list[Figure]:
    """Let all take turns."""
    taken = turns.taken(field.contenders, options.runs, server.patience, lambda who, _: submit(server, who, options))
    figures: list[Figure] = []
    ours = taken.runs[OURS]
    for way in ours[0].found:
        figures += [_figure(one, way, taken.runs[one.name]) for one in field.contenders if _did(taken, one.name, way)]
        figures += _ratios(field.contenders, taken, way)
    many, one = ([run.found[way].per_s for run in ours] for way in (MANY, ONE))
    figures += report.ratio("submit", f"{OURS}, {MANY} / {ONE}", many, one, CALLERS_TARGET)
    return figures + report.not_run("submit", {**field.absent, **taken.failures})


def submit(server: Server, contender: Contender, options: Options) -> Run:
    """One run in a database of its own."""
    with server.database() as url:
        contenders.install(contender, url)
        busy = server.patience.until_quiet()
        found = {
            ONE: _call(contender, url, "one", options.one),
            MANY: _call(contender, url, "callers", options.callers, "--callers", str(CALLERS)),
        }
        for bulk in options.bulks:
            # A tenth of a hundred thousand is the other bulk: a slow contender does that only.
            if contender.share == 1 or bulk == min(options.bulks):
                count = max(min(bulk, BULK_MIN), int(bulk * contender.share))
                found[_bulk(bulk)] = _call(contender, url, "bulk", count)
    return Run(found, busy)


def _call(contender: Contender, url: str, verb: str, count: int, *more: str) -> Submitted:
    command = contender.side(verb, url, "--count", str(count), *more)
    printed = processes.call(command, environment=contender.environment(url), timeout_s=CALL_S)
    return msgspec.convert(json.loads(printed), Submitted)


def _bulk(count: int) -> str:
    return f"bulk of {count:,}"


def _did(taken: Turns[Run], name: str, way: str) -> bool:
    return all(way in run.found for run in taken.runs.get(name, [])) and name in taken.runs


def _rates(taken: Turns[Run], name: str, way: str) -> list[float]:
    return [run.found[way].per_s for run in taken.runs[name]] if _did(taken, name, way) else []


def _figure(contender: Contender, way: str, runs: Sequence[Run]) -> Figure:
    own = [run.found[way] for run in runs]
    return Figure(
        bench="submit",
        name=f"{contender.name}, {way}",
        unit="jobs/s",
        runs=[run.per_s for run in own],
        config=f"one client process, a call a job, in bulk {_calls(contender)}; {contender.config}",
        more={
            "call_p50_ms": median_of([run.p50_ms for run in own]),
            "call_p99_ms": median_of([run.p99_ms for run in own]),
            "call_p999_ms": median_of([run.p999_ms for run in own]),
        },
        busy_before=[run.busy_before for run in runs],
    )


def _calls(contender: Contender) -> str:
    return "one call" if contender.name == OURS else f"calls of {CHUNK:,}"


def _ratios(field: Sequence[Contender], taken: Turns[Run], way: str) -> list[Figure]:
    figures: list[Figure] = []
    ours = _rates(taken, OURS, way)
    for other in field[1:]:
        target = TARGETS.get(("bulk" if way.startswith("bulk") else way, other.name))
        theirs = _rates(taken, other.name, way)
        figures += report.ratio("submit", f"{OURS} / {other.name}, {way}", ours, theirs, target)
    return figures
