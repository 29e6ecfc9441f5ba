"""Lists and records as tables, JSON or CSV."""

from __future__ import annotations

import csv
import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import typer

from goqueue.cli.options import Output

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    from goqueue.model.job import JobRecord

PIPE_WIDTH: Final = 200
"""Where there is no terminal whose width could be asked."""
CELL_GAP: Final = 2
"""Between two columns: the box's space and the padding."""
SHORTEST_CELL: Final = 8
_STATE_STYLES: Final = {
    "completed": "green",
    "running": "cyan",
    "ready": "blue",
    "scheduled": "dim",
    "retrying": "yellow",
    "blocked": "dim",
    "cancelled": "magenta",
    "dead": "bold red",
}
_STYLES: Final = {"state": _STATE_STYLES, "level": {"ok": "green", "warning": "yellow", "error": "bold red"}}
"""By title of the column."""


class Column(NamedTuple):
    """One column: its title, and for tables whether it is kept whole, and how it is aligned."""

    title: str
    whole: bool = False
    right: bool = False
    least: int = SHORTEST_CELL
    """How narrow it can be and still say something."""
    good: int = 0
    """How wide it should be: before it is narrower, columns of a higher rank are left out."""
    rank: int = 0
    """The highest is left out first when there is no room, of several the last one."""
    wrap: bool = False
    """Long texts go on in the next line: nothing of them may be cut."""


def console() -> Console:
    """Return where tables are written: as wide as the terminal, else wide."""
    from rich.console import Console

    terminal = sys.stdout.isatty()
    return Console(width=None if terminal else PIPE_WIDTH, highlight=False, soft_wrap=False)


def show_rows(
    output: Output, columns: Sequence[Column], rows: Iterable[Sequence[object]], *, empty: str, records: object = None
) -> None:
    """Write rows. JSON has ``records`` if given (whole), else the rows under the columns' titles."""
    match output:
        case Output.TABLE:
            _table(columns, list(rows), empty)
        case Output.CSV:
            writer = csv.writer(sys.stdout)
            writer.writerow([column.title for column in columns])
            writer.writerows([_cell_text(cell) for cell in row] for row in rows)
        case Output.JSON:
            titles = [column.title for column in columns]
            write_json([dict(zip(titles, row, strict=True)) for row in rows] if records is None else records)


def _cell_text(cell: object) -> str:
    if cell is None:
        return ""
    return cell.isoformat() if isinstance(cell, datetime) else str(cell)


def _table(columns: Sequence[Column], rows: Sequence[Sequence[object]], empty: str) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    if not rows:
        typer.echo(empty, err=True)
        return
    texts = [[ago(cell) if isinstance(cell, datetime) else _cell_text(cell) for cell in row] for row in rows]
    screen = console()
    widths = fit(
        columns,
        [
            max(len(line) for cell in (column.title, *cells) for line in cell.splitlines() or [""])
            for column, cells in zip(columns, zip(*texts, strict=True), strict=True)
        ],
        screen.width,
    )
    shown = [i for i, width in enumerate(widths) if width]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, header_style="bold")
    for i in shown:
        justify: Literal["left", "right"] = "right" if columns[i].right else "left"
        wrap = columns[i].wrap
        table.add_column(
            columns[i].title,
            justify=justify,
            overflow="fold" if wrap else "ellipsis",
            no_wrap=not wrap,
            width=widths[i],
        )
    for row in texts:
        table.add_row(*(Text(row[i], style=_STYLES.get(columns[i].title, {}).get(row[i], "")) for i in shown))
    screen.print(table)
    hidden = [column.title for column, width in zip(columns, widths, strict=True) if not width]
    if hidden:
        typer.echo(f"(no room for {', '.join(hidden)}; -o json has all)", err=True)


def fit(columns: Sequence[Column], widths: Sequence[int], room: int) -> list[int]:
    """Return how wide each column is to be; 0 for those there is no room for, by their rank.

    Columns that are kept whole have what they need; the others give way, the widest first. The first one stays.
    """
    left = list(widths)

    def excess() -> int:
        used = [width for width in left if width]
        return sum(used) + CELL_GAP * (len(used) - 1) - room

    # First what matters least goes, then the columns that want more room than they need become as narrow as they can.
    wanting = [column.rank for column in columns if column.good > column.least]
    for floors, rank_kept in (
        ([max(column.good, column.least) for column in columns], min(wanting, default=0)),
        ([column.least for column in columns], -1),
    ):
        while (over := excess()) > 0:
            soft = [i for i, column in enumerate(columns) if not column.whole and left[i] > floors[i]]
            if soft:
                widest = max(soft, key=lambda i: left[i])
                left[widest] = max(floors[widest], left[widest] - over, _second_widest(left, soft, widest) - 1)
                continue
            rest = [i for i, width in enumerate(left) if width and i and columns[i].rank > rank_kept]
            if not rest:
                break  # or one column is left: the terminal has to wrap it
            left[max(rest, key=lambda i: (columns[i].rank, i))] = 0
    # What was left out made room: perhaps for a narrower one that was left out before it.
    for i in sorted(range(len(left)), key=lambda i: (columns[i].rank, i)):
        least = widths[i] if columns[i].whole else min(widths[i], columns[i].least)
        if not left[i] and least + CELL_GAP <= -excess():
            left[i] = least
    # And the others have back what is still free, the narrowest first.
    for _ in range(-excess()):
        short = [i for i, width in enumerate(left) if 0 < width < widths[i]]
        if not short:
            break
        left[min(short, key=lambda i: left[i])] += 1
    return left


def _second_widest(widths: Sequence[int], soft: Sequence[int], widest: int) -> int:
    return max((widths[i] for i in soft if i != widest), default=0)


def write_json(value: object) -> None:
    """Write any value of ours as indented JSON."""
    import msgspec

    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def show_fields(fields: Iterable[tuple[str, object]]) -> None:
    """Write one record for people: a name and its value in each line."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in fields:
        if value is None or value == "":
            continue
        text = f"{value:%Y-%m-%d %H:%M:%S.%f} UTC  ({ago(value)})" if isinstance(value, datetime) else str(value)
        grid.add_row(name, Text(text, style=_STATE_STYLES.get(text, "") if name == "state" else ""))
    console().print(grid)


def ago(instant: datetime, now: datetime | None = None) -> str:
    """Return how far away an instant is: ``3 m ago``, ``in 2 h``."""
    away_s = ((now or datetime.now(UTC)) - instant).total_seconds()
    amount = abs(away_s)
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        if amount >= size or unit == "s":
            text = f"{amount / size:.0f} {unit}"
            break
    if amount < 0.5:
        return "now"
    return f"{text} ago" if away_s > 0 else f"in {text}"


def duration(seconds: float | None) -> str:
    """Return a duration for people."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms"
    for unit, size in (("s", 1), ("min", 60), ("h", 3_600)):
        if seconds < 120 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 86_400:.1f} d"


def ran_for(record: JobRecord) -> float | None:
    """Return how long the last attempt of a final job took, in seconds."""
    if record.attempted_at is None or record.finished_at is None:
        return None
    return (record.finished_at - record.attempted_at).total_seconds()


def compact(raw: object) -> str:
    """Return encoded JSON as short text."""
    return json.dumps(json.loads(bytes(raw)), ensure_ascii=False) if raw is not None else ""  # type: ignore[call-overload]  # msgspec.Raw is a buffer
