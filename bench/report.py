"""Figures: a table to read, and one JSON line each with all that it depends on."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import TextIO

from bench.processes import QUIET_SHARE

PACKAGES = ("goqueue", "psycopg", "psycopg-binary", "msgspec", "starlette", "uvicorn", "httptools", "uvloop")


@dataclass(frozen=True)
class Target:
    """What a figure has to be."""

    least: float | None = None
    most: float | None = None

    def met_by(self, value: float) -> bool:
        """Whether it is."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def __str__(self) -> str:
        bounds = (("≥", self.least), ("≤", self.most))
        return ", ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured number: the median of ``runs``. Without runs ``note`` says why there are none.

    A figure without a target is there to be seen. ``more`` are medians that explain it.
    """

    bench: str
    name: str
    unit: str
    runs: Sequence[float]
    config: str = ""
    target: Target | None = None
    note: str = ""
    more: Mapping[str, float | None] = field(default_factory=dict)
    busy_before: Sequence[float] = ()
    """The share of the machine that other work took just before each run."""

    @property
    def value(self) -> float | None:
        """The median."""
        return statistics.median(self.runs) if self.runs else None

    @property
    def met(self) -> bool | None:
        """Whether the target is met, if there is one."""
        return None if self.target is None or self.value is None else self.target.met_by(self.value)

    def line(self, facts: Mapping[str, object]) -> str:
        """All of it as one line of JSON."""
        return json.dumps(
            {
                "bench": self.bench,
                "figure": self.name,
                "value": _rounded(self.value),
                "unit": self.unit,
                "runs": [_rounded(run) for run in self.runs],
                "target": str(self.target or ""),
                "met": self.met,
                "note": self.note,
                "config": self.config,
                **{name: _rounded(number) for name, number in self.more.items()},
                "machine_busy_before": [_rounded(share) for share in self.busy_before],
                "facts": facts,
            },
            ensure_ascii=False,
        )


def ratio(
    bench: str, name: str, ours: Sequence[float], theirs: Sequence[float], target: Target | None = None
) -> list[Figure]:
    """Our figure over another of the same run, pair by pair: what the machine did meanwhile falls out. None without."""
    if len(ours) != len(theirs) or not ours or not all(theirs):
        return []
    pairs = [one / other for one, other in zip(ours, theirs, strict=True)]
    return [Figure(bench=bench, name=name, unit="×", runs=pairs, target=target)]


def not_run(bench: str, reasons: Mapping[str, str]) -> list[Figure]:
    """A row for each that is not measured, with the reason."""
    return [Figure(bench=bench, name=name, unit="", runs=(), note=f"not run: {why}") for name, why in reasons.items()]


def machine_facts() -> dict[str, object]:
    """What the figures depend on besides the database."""
    return {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def show(figures: Sequence[Figure], facts: Mapping[str, object], output: TextIO = sys.stdout) -> None:
    """Print the table, what its rows say of themselves, then the lines."""
    head = ("figure", "median", "runs", "target", "", "")
    body = [_row(figure) for figure in figures]
    widths = [max(len(row[column]) for row in (head, *body)) for column in range(len(head))]
    for row in (head, tuple("-" * width for width in widths), *body):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(), file=output)
    for config in dict.fromkeys(figure.config for figure in figures if figure.config):
        print(f"  · {config}", file=output)
    for figure in figures:
        print(figure.line(facts), file=output, flush=True)


def median_of(runs: Sequence[float | None]) -> float | None:
    """The median, or None if the machine could not tell."""
    known = [run for run in runs if run is not None]
    return statistics.median(known) if known else None


def _row(figure: Figure) -> tuple[str, ...]:
    verdict = {True: "met", False: "MISSED", None: ""}[figure.met]
    busy = "busy machine" if any(share >= QUIET_SHARE for share in figure.busy_before) else ""
    return (
        f"{figure.bench}: {figure.name}",
        figure.note if figure.value is None else f"{_short(figure.value)} {figure.unit}",
        " ".join(_short(run) for run in figure.runs),
        str(figure.target or ""),
        verdict,
        ", ".join(filter(None, [busy, figure.note if figure.runs else "", _explained(figure.more)])),
    )


def _explained(more: Mapping[str, float | None]) -> str:
    return ", ".join(f"{name} {_short(number)}" for name, number in more.items() if number is not None)


def _short(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.2f}"


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 3)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
