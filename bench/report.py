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


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured number: the median of ``runs``.

    ``peer`` and ``ratio`` set it beside a peer or a limit of the same run. ``target`` says in words what it has to
    be, and ``met`` whether it is; a figure without a target is there to be seen. ``more`` are medians that explain it.
    """

    bench: str
    name: str
    unit: str
    runs: Sequence[float]
    config: str
    peer: str = ""
    ratio: float | None = None
    target: str = ""
    met: bool | None = None
    more: Mapping[str, float | None] = field(default_factory=dict)
    busy_before: Sequence[float] = ()
    """The share of the machine that other work took just before each run."""

    @property
    def value(self) -> float:
        """The median."""
        return statistics.median(self.runs)

    def line(self, facts: Mapping[str, object]) -> str:
        """All of it as one line of JSON."""
        return json.dumps(
            {
                "bench": self.bench,
                "figure": self.name,
                "value": _rounded(self.value),
                "unit": self.unit,
                "runs": [_rounded(run) for run in self.runs],
                "peer": self.peer,
                "ratio": None if self.ratio is None else round(self.ratio, 3),
                "target": self.target,
                "met": self.met,
                "config": self.config,
                **{name: None if number is None else _rounded(number) for name, number in self.more.items()},
                "machine_busy_before": [_rounded(share) for share in self.busy_before],
                "facts": facts,
            },
            ensure_ascii=False,
        )


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
    """Print the table, then the lines."""
    head = ("figure", "median", "runs", "ratio", "target", "", "")
    body = [_row(figure) for figure in figures]
    widths = [max(len(row[column]) for row in (head, *body)) for column in range(len(head))]
    for row in (head, tuple("-" * width for width in widths), *body):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(), file=output)
    for figure in figures:
        print(figure.line(facts), file=output, flush=True)


def median_of(runs: Sequence[float | None]) -> float | None:
    """The median, or None if the machine could not tell."""
    known = [run for run in runs if run is not None]
    return statistics.median(known) if known else None


def _row(figure: Figure) -> tuple[str, ...]:
    ratio = "" if figure.ratio is None else f"{figure.ratio:.2f} × {figure.peer}"
    verdict = {True: "met", False: "MISSED", None: ""}[figure.met]
    noise = "busy machine" if any(share >= QUIET_SHARE for share in figure.busy_before) else ""
    runs = " ".join(_short(run) for run in figure.runs)
    return (
        f"{figure.bench}: {figure.name}",
        f"{_short(figure.value)} {figure.unit}",
        runs,
        ratio,
        figure.target,
        verdict,
        noise,
    )


def _short(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.2f}"


def _rounded(number: float) -> float:
    return round(number, 3)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
