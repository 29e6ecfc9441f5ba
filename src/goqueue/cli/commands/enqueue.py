"""`goqueue enqueue`: hand over one job."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from goqueue.cli import arguments
from goqueue.cli.options import UrlOption, opened_client
from goqueue.model.job import OnConflict, Unique

if TYPE_CHECKING:
    from goqueue.client._sync.job import Job
    from goqueue.model.job import NewJob
    from goqueue.tasks.app import GoQueue


def register(cli: typer.Typer) -> None:
    """Add this command."""
    cli.command("enqueue", rich_help_panel="Jobs")(enqueue)


def enqueue(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(help="Which task is to run.")],
    args: Annotated[
        str, typer.Argument(metavar="[JSON]", help="Arguments, a JSON object; - reads standard input.")
    ] = "{}",
    queue: Annotated[str | None, typer.Option("--queue", "-q", help="Default: the task's, else default.")] = None,
    priority: Annotated[int | None, typer.Option("--priority", "-p", help="0 first … 9 last. Default: 5.")] = None,
    delay: Annotated[float | None, typer.Option("--delay", metavar="SECONDS", help="Not before then.")] = None,
    run_at: Annotated[
        datetime | None, typer.Option("--run-at", formats=["%Y-%m-%dT%H:%M:%S%z"], help="Not before this instant.")
    ] = None,
    max_attempts: Annotated[int | None, typer.Option(help="Default: 20.")] = None,
    timeout: Annotated[float | None, typer.Option("--timeout", metavar="SECONDS", help="Of one attempt.")] = None,
    start_within: Annotated[
        float | None,
        typer.Option(
            "--start-within", metavar="SECONDS", help="Dead if no worker has started it so long after it was due."
        ),
    ] = None,
    deadline: Annotated[
        float | None,
        typer.Option("--deadline", metavar="SECONDS", help="Dead if it has not ended by then, all attempts included."),
    ] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="Repeatable.")] = None,
    unique: Annotated[
        str | None, typer.Option("--unique", metavar="KEY", help="At most one such job at a time.")
    ] = None,
    on_conflict: Annotated[
        OnConflict | None,
        typer.Option("--on-conflict", help="When the key is held. Default: return, which prints its holder."),
    ] = None,
    until_started: Annotated[
        bool, typer.Option("--until-started", help="The key is free again when a worker starts the job.")
    ] = False,
    app: Annotated[
        str | None, typer.Option("--app", metavar="MODULE:APP", help="Check the arguments against this application.")
    ] = None,
    wait: Annotated[
        float | None, typer.Option("--wait", metavar="SECONDS", help="Wait for the result, and print it.")
    ] = None,
    url: UrlOption = None,
) -> None:
    """Enqueue a job and print its id.

    With an application (--app, or the configured one) its definition gives the options that are not named here, and
    arguments that do not fit are refused.
    """
    known = arguments.application(app)
    job = _new_job(known, kind, arguments.read(args)).options(
        **{
            name: value
            for name, value in {
                "queue": queue,
                "priority": priority,
                "delay_s": delay,
                "run_at": run_at,
                "max_attempts": max_attempts,
                "timeout_s": timeout,
                "schedule_to_start_s": start_within,
                "deadline_s": deadline,
                "tags": tuple(tag) if tag else None,
                "unique": _unique(unique, on_conflict, until_started=until_started),
            }.items()
            if value is not None
        }  # type: ignore[arg-type]  # each is of its option's type
    )
    with opened_client(context, url, known) as client:
        stored = client.enqueue(job)
        if stored.deduplicated:
            typer.echo(f"a job with this unique key is there already: {stored.id}", err=True)
        if wait is None:
            typer.echo(stored.id)
        else:
            _wait(stored, wait)


def _unique(key: str | None, on_conflict: OnConflict | None, *, until_started: bool) -> Unique | None:
    if key is None:
        if on_conflict is not None or until_started:
            raise typer.BadParameter("needs a key: --unique KEY", param_hint="--on-conflict, --until-started")
        return None
    return Unique(key=key, on_conflict=on_conflict or OnConflict.RETURN, until_started=until_started)


def _wait(job: Job[object], timeout_s: float) -> None:
    from goqueue.cli.output import write_json

    typer.echo(job.id, err=True)
    write_json(job.result(timeout_s=timeout_s))


def _new_job(app: GoQueue | None, kind: str, args: bytes) -> NewJob[object]:
    from goqueue.model import limits
    from goqueue.model.job import NewJob
    from goqueue.tasks.codec import check_json

    check_json(args, "/args", limits.ARGS_BYTES_MAX, must_be_object=True)
    task = app.runs.get(kind) if app is not None else None
    if task is None:
        if app is not None:
            typer.echo(f"note: your application has no task {kind}; it is enqueued as it is", err=True)
        return NewJob(kind=kind, args=args)
    return task.job(**task.decode(args))
