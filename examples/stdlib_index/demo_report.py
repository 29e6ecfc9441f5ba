"""The table at the end."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

FAILED_SHOWN_MAX: Final = 12
WRONG_SHOWN_MAX: Final = 10

Record = dict[str, Any]


@dataclass(frozen=True)
class Summary:
    """What the run has found. ``wrong`` is what did not agree with the direct count."""

    records: list[Record]
    probes: list[Record]
    submitted_s: float
    wrong: list[str]


def show(summary: Summary) -> None:
    """Write the tables, and the verdict."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)
    console.print()
    console.print(_figures(summary))
    failed = [record for record in summary.records if record["state"] != "completed"]
    if failed:
        console.print(_failures(failed))
    if summary.wrong:
        console.print(Text(f"{len(summary.wrong)} do not agree with a direct count:", style="bold red"))
        for line in summary.wrong[:WRONG_SHOWN_MAX]:
            console.print(Text(f"  {line}"))
    else:
        console.print(Text("Every job is final, and all counts agree with a direct count.", style="green"))


def _figures(summary: Summary) -> Table:
    completed = [record for record in summary.records if record["state"] == "completed"]
    totals = {name: sum(record["result"][name] for record in completed) for name in ("functions", "classes", "lines")}
    created = min(_instant(record["created_at"]) for record in summary.records)
    took_s = (max(_instant(record["finished_at"]) for record in completed) - created).total_seconds()
    waits = _spans([record for record in completed if record["attempt"] == 1], "created_at", "attempted_at")
    table = Table(box=box.SIMPLE_HEAD, show_header=False, pad_edge=False, title="The standard library, indexed")
    table.add_column(style="bold")
    table.add_column(justify="right")
    rows = [
        ("files", f"{len(summary.records):,}"),
        *((name, f"{value:,}") for name, value in totals.items()),
        ("submitted over HTTP in", f"{summary.submitted_s:.2f} s"),
        ("all completed in", f"{took_s:.1f} s"),
        ("throughput", f"{len(completed) / took_s:,.0f} files/s"),
        ("queue wait in the burst, p50 / p99", _both(waits)),
        ("pick-up of a spaced probe, p50 / p99", _both(_spans(summary.probes, "created_at", "attempted_at"))),
        ("end to end of a spaced probe, p50 / p99", _both(_spans(summary.probes, "created_at", "finished_at"))),
        ("failed", f"{len(summary.records) - len(completed)}"),
    ]
    for row in rows:
        table.add_row(*row)
    return table


def _failures(failed: list[Record]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="Jobs that failed, and why")
    table.add_column("file", overflow="fold")
    table.add_column("state", no_wrap=True)
    table.add_column("tries", justify="right")
    table.add_column("error", overflow="fold")
    root = sysconfig.get_path("stdlib")
    for record in failed[:FAILED_SHOWN_MAX]:
        path = str(record["args"]["path"])
        shown = path.removeprefix(f"{root}/") if path.startswith(root) else path.rpartition("/")[2]
        last = record["errors"][-1] if record["errors"] else {"type": "none", "message": ""}
        error = f"{last['type']}: {last['message']}"
        table.add_row(Text(shown), record["state"], f"{record['attempt']}/{record['max_attempts']}", Text(error))
    if len(failed) > FAILED_SHOWN_MAX:
        table.add_row(f"… and {len(failed) - FAILED_SHOWN_MAX} more", "", "", "")
    return table


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _spans(records: Sequence[Record], start: str, end: str) -> list[float]:
    return sorted(
        (_instant(record[end]) - _instant(record[start])).total_seconds()
        for record in records
        if record[start] and record[end]
    )


def _both(spans_s: Sequence[float]) -> str:
    if not spans_s:
        return "none"
    return " / ".join(_duration(spans_s[min(len(spans_s) - 1, int(len(spans_s) * part))]) for part in (0.5, 0.99))


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
