"""`goqueue jobs`: look at jobs. Changing them is in `changing`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from goqueue.cli.commands import changing
from goqueue.cli.filters import (
    CreatedAfterOption,
    CreatedBeforeOption,
    ErrorOption,
    FinishedAfterOption,
    FinishedBeforeOption,
    KindOption,
    QueueOption,
    ReasonOption,
    StateOption,
    TagOption,
    conditions,
)
from goqueue.cli.options import Output, OutputOption, UrlOption, doors_of, opened_client
from goqueue.model.state import JobState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from goqueue.cli.filters import Conditions
    from goqueue.cli.output import Column
    from goqueue.client._sync.client import Client
    from goqueue.model.job import JobRecord

_LATER = (JobState.SCHEDULED, JobState.RETRYING)
_DROPPED_FIRST = ("ran", "created", "tries", "queue", "reason", "error")
"""Columns that make room on a narrow screen, in this order."""
KIND_CHARS_MIN = 12
ERROR_CHARS_MIN, ERROR_CHARS_GOOD = 18, 40
"""Of an error, in a list: most of its type; and the beginning of its message."""


def register(cli: typer.Typer) -> None:
    """Add these commands."""
    group = typer.Typer(help="Jobs: list, show, cancel, retry, delete.", no_args_is_help=True)
    group.command("list")(list_)
    group.command("show")(show)
    changing.register(group)
    cli.add_typer(group, name="jobs", rich_help_panel="Jobs")


def list_(
    context: typer.Context,
    state: StateOption = None,
    queue: QueueOption = None,
    kind: KindOption = None,
    tag: TagOption = None,
    created_after: CreatedAfterOption = None,
    created_before: CreatedBeforeOption = None,
    finished_after: FinishedAfterOption = None,
    finished_before: FinishedBeforeOption = None,
    reason: ReasonOption = None,
    error: ErrorOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 50,
    cursor: Annotated[
        str, typer.Option("--cursor", metavar="ID", help="Go on after this job, the last one of another list.")
    ] = "",
    output: OutputOption = Output.TABLE,
    url: UrlOption = None,
) -> None:
    """List jobs, newest first. `goqueue jobs list --state dead` is the dead letters, with why and the last error.

    The column `when` has when a job ended; of one that runs, when it was started; else when it is or was due.
    """
    from goqueue.cli.output import show_rows

    wanted = conditions(
        state=state,
        queue=queue,
        kind=kind,
        tag=tag,
        created_after=created_after,
        created_before=created_before,
        finished_after=finished_after,
        finished_before=finished_before,
        reason=reason,
        error=error,
    )
    with opened_client(context, url) as client:
        records, more = _first(client, wanted, limit, cursor)
    if output is Output.TABLE:
        columns, rows = _for_people(records, wanted)
    else:
        columns, rows = _whole(records)
    show_rows(output, columns, rows, empty="no such jobs", records=records)
    if more:
        jobs = "1 job" if len(records) == 1 else f"{len(records)} jobs"
        typer.echo(f"({jobs}; {more}: --limit, or --cursor {records[-1].id})", err=True)


def _first(client: Client, wanted: Conditions, limit: int, cursor: str) -> tuple[list[JobRecord], str]:
    """Return so many jobs, and whether there are more. That they are all is found out in one look, or left open."""
    from goqueue.client.many import READ_MAX, matches

    records: list[JobRecord] = []
    reasons = frozenset(wanted.reasons)
    while True:
        was_enough = len(records) == limit
        # Reasons and errors are looked at here: how many have to be read for one that fits, nobody knows.
        size = READ_MAX if wanted.reasons or wanted.errors else min(READ_MAX, limit + 1 - len(records))
        page = client.find(**wanted.keywords(), page_size=size, page_token=cursor)
        for job in page.jobs:
            if job.known is not None and matches(job.known, reasons, wanted.errors):
                if len(records) == limit:
                    return records, "there are more"
                records.append(job.known)
        cursor = page.next_page_token
        if not cursor:
            return records, ""
        if was_enough:
            return records, "there may be more"


def _whole(records: Sequence[JobRecord]) -> tuple[list[Column], list[tuple[object, ...]]]:
    """Columns and rows for programs."""
    from goqueue.cli.output import Column, ran_for
    from goqueue.cli.showing import last_error

    titles = ("id", "state", "kind", "queue", "due", "tries", "created", "finished", "ran", "reason", "error")
    rows: list[tuple[object, ...]] = [
        (
            record.id,
            str(record.state),
            record.kind,
            record.queue,
            record.run_at,
            f"{record.attempt}/{record.max_attempts}",
            record.created_at,
            record.finished_at,
            ran_for(record),
            record.reason or "",
            last_error(record, short=False),
        )
        for record in records
    ]
    return [Column(title) for title in titles], rows


def _for_people(records: Sequence[JobRecord], wanted: Conditions) -> tuple[list[Column], list[tuple[object, ...]]]:
    """Columns and rows for people: only columns that say something, and of dead letters first why they are dead."""
    from goqueue.cli.output import SHORTEST_CELL, Column, duration, ran_for
    from goqueue.cli.showing import last_error

    cells: dict[str, list[object]] = {
        "id": [record.id for record in records],
        "state": [str(record.state) for record in records],
        "kind": [record.kind for record in records],
        "when": [_when(record) for record in records],
        "queue": [record.queue for record in records],
        "tries": [f"{record.attempt}/{record.max_attempts}" for record in records],
        "reason": [record.reason or "" for record in records],
        "error": [last_error(record, short=True) for record in records],
        "ran": [duration(ran_for(record)) for record in records],
        "created": [record.created_at for record in records],
    }
    asked = {"state": wanted.states, "kind": wanted.kinds, "queue": wanted.queues}
    # What was asked for is known, and what no job has says nothing.
    titles = [title for title, column in cells.items() if len(asked.get(title, ())) != 1 and any(column)]
    columns = [
        Column(
            title,
            whole=title in ("id", "state", "when"),
            right=title in ("when", "tries", "ran", "created"),
            least={"error": ERROR_CHARS_MIN, "kind": KIND_CHARS_MIN}.get(title, SHORTEST_CELL),
            good=ERROR_CHARS_GOOD if title == "error" else 0,
            rank=_DROPPED_FIRST[::-1].index(title) + 1 if title in _DROPPED_FIRST else 0,
        )
        for title in titles
    ]
    return columns, list(zip(*(cells[title] for title in titles), strict=True))


def _when(record: JobRecord) -> datetime:
    if record.state is JobState.RUNNING:
        return record.attempted_at or record.run_at
    return record.finished_at or record.run_at


def show(
    context: typer.Context,
    id: Annotated[str, typer.Argument(metavar="ID", help="Id of a job.")],
    output: OutputOption = Output.TABLE,
    url: UrlOption = None,
) -> None:
    """Show all that is known of one job: its state and why, every error, and who runs it or why nobody does."""
    import asyncio

    from goqueue.cli.around import around
    from goqueue.cli.output import write_json
    from goqueue.cli.showing import show_job

    with opened_client(context, url) as client:
        record = client.get(id).known
    if record is None:
        raise RuntimeError("a job that was looked up has a record")
    if output is Output.TABLE:
        doors = doors_of(context)
        show_job(record, asyncio.run(around(doors, doors.resolve(url), record)))
    else:
        write_json(record)
