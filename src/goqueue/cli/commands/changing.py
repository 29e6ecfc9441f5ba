"""`goqueue jobs cancel|retry|delete`: jobs by id, or all for which conditions hold."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from goqueue.cli import filters, parsing
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
)
from goqueue.cli.options import UrlOption, opened_client
from goqueue.model.errors import GoQueueError
from goqueue.model.state import JobState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from goqueue.cli.filters import Conditions
    from goqueue.client._sync.client import Client

Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]…", help="Ids of jobs; or say which by options.")]
LimitOption = Annotated[
    int | None, typer.Option("--limit", "-n", min=1, help="At most so many.", rich_help_panel="How")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Only show which jobs it would be.", rich_help_panel="How")
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.", rich_help_panel="How")]


def register(group: typer.Typer) -> None:
    """Add these commands."""
    group.command("cancel")(cancel)
    group.command("retry")(retry)
    group.command("delete")(delete)


def cancel(
    context: typer.Context,
    ids: Ids = None,
    reason: Annotated[str, typer.Option(help="Why; kept with the job.")] = "",
    state: StateOption = None,
    queue: QueueOption = None,
    kind: KindOption = None,
    tag: TagOption = None,
    created_after: CreatedAfterOption = None,
    created_before: CreatedBeforeOption = None,
    limit: LimitOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    url: UrlOption = None,
) -> None:
    """Cancel jobs: waiting ones at once, running ones are asked to stop. By id, or all that the options choose."""
    from goqueue.cli.lots import Ask, cancel_lot

    wanted = filters.conditions(
        state=state, queue=queue, kind=kind, tag=tag, created_after=created_after, created_before=created_before
    )
    _ids_or_filter(ids, wanted, limit=limit, dry_run=dry_run, yes=yes)
    with opened_client(context, url) as client:
        if ids:
            _each(ids, lambda job_id: f"cancel {client.cancel(job_id, reason=reason)}")
        else:
            cancel_lot(client, wanted, Ask(limit=limit, dry_run=dry_run, yes=yes), reason)


def retry(
    context: typer.Context,
    ids: Ids = None,
    args: Annotated[
        str | None,
        typer.Option("--args", metavar="JSON", help="Run with these arguments instead; - reads standard input."),
    ] = None,
    edit: Annotated[bool, typer.Option("--edit", help="Edit the arguments of one job in $EDITOR first.")] = False,
    app: Annotated[
        str | None, typer.Option("--app", metavar="MODULE:APP", help="Check new arguments against this application.")
    ] = None,
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
    rate: Annotated[
        float | None,
        typer.Option(
            parser=parsing.rate, metavar="RATE", help="So many in a second: 50/s, 600/m, 1000/h.", rich_help_panel="How"
        ),
    ] = None,
    limit: LimitOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    url: UrlOption = None,
) -> None:
    """Run jobs again: final ones get at least one more attempt, waiting ones are due now.

    By id, or all dead ones (or those of --state) that the options choose. With --rate they come back slowly: each has
    its turn from the start, so nothing has to stay up for it. A completed job has had its effects: before it runs again
    you are asked, also by id.
    """
    from goqueue.cli import arguments
    from goqueue.cli.lots import Ask, retry_lot

    wanted = filters.conditions(
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
    _ids_or_filter(ids, wanted, rate=rate, limit=limit, dry_run=dry_run)
    _one_job(ids, args, edit=edit)
    new_args = None if args is None else arguments.as_object(arguments.read(args))
    application = arguments.application(app) if edit or args is not None else None
    with opened_client(context, url, application) as client:
        if not ids:
            retry_lot(client, wanted, Ask(limit=limit, dry_run=dry_run, yes=yes), rate=rate, args=new_args)
            return
        if not yes:
            _ask_for_completed(client, ids)
        if edit:
            new_args = _edited(client, ids[0])
        _each(ids, lambda job_id: f"retry {client.retry(job_id, new_args)}")


def delete(
    context: typer.Context,
    ids: Ids = None,
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
    limit: LimitOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    url: UrlOption = None,
) -> None:
    """Delete jobs that are not running, with all that is known of them. By id, or all that the options choose."""
    from goqueue.cli.lots import Ask, delete_lot

    wanted = filters.conditions(
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
    _ids_or_filter(ids, wanted, limit=limit, dry_run=dry_run, yes=yes)
    if not ids and (not wanted.states or JobState.RUNNING in wanted.states):
        raise typer.BadParameter("say in which states jobs are to be deleted (none that run)", param_hint="--state")
    with opened_client(context, url) as client:
        if ids:
            _each(ids, lambda job_id: _delete(client, job_id))
        else:
            delete_lot(client, wanted, Ask(limit=limit, dry_run=dry_run, yes=yes))


def _ids_or_filter(ids: Sequence[str] | None, wanted: Conditions, **how: object) -> None:
    """Refuse both, and neither: a command that was cut short must not be one for all jobs."""
    if ids and wanted.given:
        raise typer.BadParameter("give ids or options that choose jobs, not both", param_hint="ID")
    if ids and (typed := [name for name, value in how.items() if value]):
        option = "--" + typed[0].replace("_", "-")
        raise typer.BadParameter("is for jobs that are chosen by options, not by id", param_hint=option)
    if not ids and not wanted.given:
        raise typer.BadParameter("which jobs? Give ids, or options such as --state dead --queue mail", param_hint="ID")


def _one_job(ids: Sequence[str] | None, args: str | None, *, edit: bool) -> None:
    if edit and args is not None:
        raise typer.BadParameter("give --args or --edit, not both", param_hint="--edit")
    if edit and (not ids or len(ids) != 1):
        raise typer.BadParameter("is for one job, by its id", param_hint="--edit")
    if args is not None and ids and len(ids) != 1:
        raise typer.BadParameter("is for one job by its id, or for all of one --kind", param_hint="--args")


def _ask_for_completed(client: Client, ids: Sequence[str]) -> None:
    """Ask before jobs run again that have done their work."""
    from goqueue.cli.output import ago
    from goqueue.model.errors import InvalidInput, NotFound

    completed: list[str] = []
    for job_id in ids:
        try:
            record = client.get(job_id).record()
        except (InvalidInput, NotFound):
            continue  # it is told of when its turn comes
        if record.state is JobState.COMPLETED:
            completed.append(f"{record.id}  {record.kind}, completed {ago(record.finished_at or record.run_at)}")
    if not completed:
        return
    what = "1 completed job" if len(completed) == 1 else f"{len(completed)} completed jobs"
    typer.echo("\n".join(completed), err=True)
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"would run {what} again: say --yes", param_hint="--yes")
    typer.confirm(f"run {what} again, with all effects?", abort=True, err=True)


def _edited(client: Client, id: str) -> dict[str, object]:
    """Let somebody edit the arguments of a job."""
    import msgspec

    from goqueue.cli import arguments
    from goqueue.cli.editing import edited

    record = client.get(id).record()
    before = msgspec.json.format(bytes(record.args), indent=2).decode() + "\n"
    after = edited(before, suffix=".json")
    if after.strip() == before.strip():
        typer.echo("nothing was changed: not retried", err=True)
        raise typer.Exit(1)
    return arguments.as_object(after.encode())


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
