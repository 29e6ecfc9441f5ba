"""`goqueue jobs`: look at jobs. Changing them is in `changing`."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from goqueue.cli.commands import changing
from goqueue.cli.filters import (
    CreatedAfterOption,
    CreatedBeforeOption,
    ErrorOption,
    KindOption,
    QueueOption,
    ReasonOption,
    StateOption,
    TagOption,
    conditions,
)
from goqueue.cli.options import Output, OutputOption, UrlOption, opened_client
from goqueue.model.state import JobState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from goqueue.cli.output import Column
    from goqueue.model.job import JobRecord

_RARE = ("due", "reason", "error")
ERROR_CHARS_MIN = 18
"""Of an error, in a list: most of its type."""
_LATER = (JobState.SCHEDULED, JobState.RETRYING)


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
    reason: ReasonOption = None,
    error: ErrorOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 50,
    output: OutputOption = Output.TABLE,
    url: UrlOption = None,
) -> None:
    """List jobs, newest first. `goqueue jobs list --state dead` is the dead letters, with why and the last error."""
    from goqueue.cli.output import show_rows

    wanted = conditions(
        state=state,
        queue=queue,
        kind=kind,
        tag=tag,
        created_after=created_after,
        created_before=created_before,
        reason=reason,
        error=error,
    )
    with opened_client(context, url) as client:
        found = client.iterate(**wanted.keywords(), reasons=wanted.reasons, errors=wanted.errors)
        records = [job.known for job in islice(found, limit) if job.known is not None]
    columns, rows = _table(records, for_people=output is Output.TABLE)
    show_rows(output, columns, rows, empty="no such jobs", records=records)


def _table(records: Sequence[JobRecord], *, for_people: bool) -> tuple[list[Column], list[tuple[object, ...]]]:
    """Columns and rows. For people only columns that say something, and of dead letters first why they are dead."""
    from goqueue.cli.output import Column, ran_for
    from goqueue.cli.showing import last_error

    columns = [
        Column("id", whole=True),
        Column("state", whole=True),
        Column("kind"),
        Column("queue"),
        Column("due", right=True),
        Column("tries", right=True),
        Column("created", right=True),
        Column("ran", right=True),
        Column("reason"),
        Column("error", least=ERROR_CHARS_MIN),
    ]
    rows: list[tuple[object, ...]] = [
        (
            record.id,
            str(record.state),
            record.kind,
            record.queue,
            record.run_at if record.state in _LATER or not for_people else None,
            f"{record.attempt}/{record.max_attempts}",
            record.created_at,
            _ran(ran_for(record), for_people=for_people),
            record.reason or "",
            last_error(record, short=for_people),
        )
        for record in records
    ]
    if for_people:
        said = {column.title for i, column in enumerate(columns) if any(row[i] for row in rows)}
        titles = [column.title for column in columns if column.title in said or column.title not in _RARE]
        if records and all(record.state is JobState.DEAD for record in records):
            titles = ["id", "kind", "reason", "error", "queue", "tries", "created", "ran"]
        order = [next(i for i, column in enumerate(columns) if column.title == title) for title in titles]
        columns, rows = [columns[i] for i in order], [tuple(row[i] for i in order) for row in rows]
    return columns, rows


def _ran(seconds: float | None, *, for_people: bool) -> object:
    from goqueue.cli.output import duration

    return duration(seconds) if for_people else seconds


def show(
    context: typer.Context,
    id: Annotated[str, typer.Argument(metavar="ID", help="Id of a job.")],
    output: OutputOption = Output.TABLE,
    url: UrlOption = None,
) -> None:
    """Show all that is known of one job."""
    from goqueue.cli.output import write_json
    from goqueue.cli.showing import show_job

    with opened_client(context, url) as client:
        record = client.get(id).known
    if record is None:
        raise RuntimeError("a job that was looked up has a record")
    if output is Output.TABLE:
        show_job(record)
    else:
        write_json(record)
