"""`gate`: has GoQueue become slower? Its ratios with the bare loop and a peer, beside the recorded ones.

A ratio that is worse than `KEPT` of the recorded one is measured again; twice in a row fails. Ratios within one run
move far less from day to day and from machine to machine than rates do; `--record` writes those of today.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec

from bench import drain, entrants, pickup, report, submit
from bench.contenders import OURS
from bench.entrants import Field
from bench.menu import Kitchen
from bench.processes import Failed
from bench.report import Figure, Target

RECORDED = Path(__file__).with_name("recorded.json")
KEPT = 0.85
BESIDE = ("bare-loop", "pgqueuer")
DRAIN_JOBS = 50_000
SUBMIT_JOBS = 2_000
BULK_JOBS = 10_000
PICKUP_JOBS = 150
LESS_IS_BETTER = ("pickup",)


class Recorded(msgspec.Struct):
    """What was measured when, and on what."""

    facts: dict[str, object]
    ratios: dict[str, float]


def check(kitchen: Kitchen, *, record: bool) -> int:
    """Compare, or record; return the exit code."""
    field = entrants.field_of(kitchen.goqueue, BESIDE, kitchen.options.batch)
    if field.absent:
        raise Failed(f"there is nothing to compare with: {dict(field.absent)}")
    expected = {} if record else msgspec.json.decode(RECORDED.read_bytes(), type=Recorded).ratios
    figures: list[Figure] = []
    for name in BENCHES:
        print(f"bench: {name} …", flush=True)
        figures += judged(partial(_ratios, kitchen, field, name), expected)
    facts: dict[str, object] = {**report.machine_facts(), "database": kitchen.server.facts()}
    report.show(figures, facts)
    ratios = {key(figure): round(figure.value, 3) for figure in figures if figure.value is not None}
    if record:
        text = json.dumps({"facts": facts, "ratios": ratios}, indent=2, ensure_ascii=False)
        RECORDED.write_text(text + "\n", "utf-8")
    if gone := sorted(expected.keys() - ratios.keys()):
        raise Failed(f"nothing was measured for {', '.join(gone)}")
    return int(any(figure.met is False for figure in figures))


def key(figure: Figure) -> str:
    """What a ratio is recorded under."""
    return f"{figure.bench}: {figure.name}"


def bound(bench: str, recorded: float) -> Target:
    """What a ratio must be, given what it was."""
    return Target(most=recorded / KEPT) if bench in LESS_IS_BETTER else Target(least=recorded * KEPT)


def judged(measure: Callable[[], Sequence[Figure]], expected: Mapping[str, float]) -> list[Figure]:
    """What is measured, each with the bound that it has to keep if it was recorded; what misses it gets a second try.

    The second try stands for those that missed it, and only for them: twice in a row is what fails.
    """
    found = _bounded(measure(), expected)
    if all(figure.met is not False for figure in found):
        return found
    print("bench: slower than recorded; once more …", flush=True)
    again = {figure.name: figure for figure in _bounded(measure(), expected)}
    return [again.get(figure.name, figure) if figure.met is False else figure for figure in found]


def _bounded(figures: Sequence[Figure], expected: Mapping[str, float]) -> list[Figure]:
    recorded = [(figure, expected.get(key(figure))) for figure in figures]
    return [replace(figure, target=None if was is None else bound(figure.bench, was)) for figure, was in recorded]


def _ratios(kitchen: Kitchen, field: Field, name: str) -> list[Figure]:
    figures = BENCHES[name](kitchen, field)
    # The tail of a short run is noise.
    return [one for one in figures if one.name.startswith(f"{OURS} / ") and "p99" not in one.name]


def _drain(kitchen: Kitchen, field: Field) -> list[Figure]:
    return drain.measure(kitchen.server, field, drain.Options(kitchen.jobs or DRAIN_JOBS, kitchen.runs, (1,)))


def _submit(kitchen: Kitchen, field: Field) -> list[Figure]:
    jobs = kitchen.jobs
    options = submit.Options(jobs or SUBMIT_JOBS, jobs or SUBMIT_JOBS, (jobs or BULK_JOBS,), kitchen.runs)
    return submit.measure(kitchen.server, field, options)


def _pickup(kitchen: Kitchen, field: Field) -> list[Figure]:
    options = pickup.Options(kitchen.jobs or PICKUP_JOBS, kitchen.runs, kitchen.options.seed)
    return pickup.measure(kitchen.server, field, options)


BENCHES: Mapping[str, Callable[[Kitchen, Field], list[Figure]]] = {
    "drain": _drain,
    "submit": _submit,
    "pickup": _pickup,
}
