"""`goqueue jobs`: look at jobs, and change them."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from goqueue.cli.options import Output, OutputOption, QueueOption, UrlOption, opened_client
from goqueue.model.errors import GoQueueError
from goqueue.model.state import JobState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from goqueue.client._sync.client import Client
    from goqueue.model.job import JobRecord

Ids = Annotated[list[str], typer.Argument(metavar="ID…", help="Ids of jobs.")]


def register(cli: typer.Typer) -> None:
    """Add these commands."""
    group = typer.Typer(help="Jobs: list, show, cancel, retry, delete.", no_args_is_help=True)
    group.command("list")(list_)
    group.command("show")(show)
    group.command("cancel")(cancel)
    group.command("retry")(retry)
    group.command("delete")(delete)
    cli.add_typer(group, name="jobs", rich_help_panel="Jobs")


def list_(
    context: typer.Context,
    state: Annotated[
        list[JobState] | None, typer.Option("--state", "-s", help="Only in this state. Repeatable.")
    ] = None,
    queue: QueueOption = None,
    kind: Annotated[list[str] | None, typer.Option("--kind", "-k", help="Only of this kind. Repeatable.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="Only with this tag. Repeatable: all of them.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 50,
    output: OutputOption = Output.TABLE,
    url: UrlOption = None,
) -> None:
    """List jobs, newest first."""
    from goqueue.cli.output import Column, ran_for, show_rows

    with opened_client(context, url) as client:
        found = client.iterate(states=state or (), queues=queue or (), kinds=kind or (), tags=tag or ())
        records = [job.known for job in islice(found, limit) if job.known is not None]
    columns = [
        Column("id", whole=True),
        Column("state", whole=True),
        Column("kind"),
        Column("queue"),
        Column("tries", right=True),
        Column("created", right=True),
        Column("ran", right=True),
        Column("error"),
    ]
    for_people = output is Output.TABLE
    rows = [
        (
            record.id,
            str(record.state),
            record.kind,
            record.queue,
            f"{record.attempt}/{record.max_attempts}",
            record.created_at,
            _ran(ran_for(record), for_people=for_people),
            f"{record.errors[-1].type}: {record.errors[-1].message}" if record.errors else "",
        )
        for record in records
    ]
    show_rows(output, columns, rows, empty="no such jobs", records=records)


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
    from goqueue.cli.output import show_fields, write_json

    with opened_client(context, url) as client:
        record = client.get(id).known
    if record is None:
        raise RuntimeError("a job that was looked up has a record")
    if output is Output.TABLE:
        show_fields(_fields(record))
        _show_errors(record)
    else:
        write_json(record)


def _fields(record: JobRecord) -> list[tuple[str, object]]:
    from goqueue.cli.output import compact, duration, ran_for

    return [
        ("id", record.id),
        ("kind", record.kind),
        ("state", str(record.state)),
        ("reason", record.reason),
        ("queue", record.queue),
        ("priority", record.priority),
        ("attempt", f"{record.attempt} of {record.max_attempts}"),
        ("crashes", f"{record.crashes} of {record.max_crashes}" if record.crashes else None),
        ("args", compact(record.args)),
        ("result", compact(record.result)),
        ("progress", compact(record.progress)),
        ("created", record.created_at),
        ("due", record.run_at),
        ("attempted", record.attempted_at),
        ("finished", record.finished_at),
        ("ran for", duration(ran_for(record))),
        ("timeout", duration(record.timeout_s)),
        ("cancel asked", record.cancel_requested_at),
        ("unique key", record.unique_key),
        ("tags", ", ".join(record.tags)),
        ("meta", ", ".join(f"{name}={value}" for name, value in record.meta.items())),
        ("worker", record.worker_id),
    ]


def _show_errors(record: JobRecord) -> None:
    from rich.text import Text

    from goqueue.cli.output import console

    screen = console()
    for error in record.errors:
        screen.print(Text(f"\nattempt {error.attempt}  {error.at:%Y-%m-%d %H:%M:%S} UTC", style="bold"))
        screen.print(Text(error.traceback.rstrip() or f"{error.type}: {error.message}", style="red"))


def cancel(
    context: typer.Context,
    ids: Ids,
    reason: Annotated[str, typer.Option(help="Why; kept with the job.")] = "",
    url: UrlOption = None,
) -> None:
    """Cancel jobs: waiting ones at once, running ones are asked to stop."""
    with opened_client(context, url) as client:
        _each(ids, lambda job_id: f"cancel {client.cancel(job_id, reason=reason)}")


def retry(context: typer.Context, ids: Ids, url: UrlOption = None) -> None:
    """Run jobs again: final ones get at least one more attempt, waiting ones are due now."""
    with opened_client(context, url) as client:
        _each(ids, lambda job_id: f"retry {client.retry(job_id)}")


def delete(context: typer.Context, ids: Ids, url: UrlOption = None) -> None:
    """Delete jobs that are not running, with all that is known of them."""
    with opened_client(context, url) as client:
        _each(ids, lambda job_id: _delete(client, job_id))


def _delete(client: Client, id: str) -> str:
    client.delete(id)
    return "deleted"


def _each(ids: Sequence[str], change: Callable[[str], str]) -> None:
    """Do it for each, also after one that cannot be; the first failure gives the exit code."""
    from goqueue.cli import report
    from goqueue.model.errors import StoreUnavailable

    code = 0
    for job_id in ids:
        try:
            typer.echo(f"{job_id}  {change(job_id)}")
        except StoreUnavailable:
            raise
        except GoQueueError as error:
            report.tell(error)
            code = code or report.exit_code(error)
    if code:
        raise typer.Exit(code)
