"""`goqueue init`, `check`, `run`: an application's first steps, and its handlers one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from goqueue.cli.options import AppArgument, Output, OutputOption, UrlOption, doors_of

if TYPE_CHECKING:
    from goqueue.cli.doors import Doors
    from goqueue.tasks.app import AnyTask, GoQueue

PANEL = "Application"


def register(cli: typer.Typer) -> None:
    """Add these commands."""
    cli.command("init", rich_help_panel=PANEL)(init)
    cli.command("check", rich_help_panel=PANEL)(check)
    cli.command("run", rich_help_panel=PANEL)(run)


def init(
    module: Annotated[str, typer.Option("--module", help="Name of the module to write.")] = "jobs",
) -> None:
    """Write \\[tool.goqueue] to pyproject.toml and a first application. Never overwrites anything."""
    from goqueue.cli.starter import write_starter

    for line in write_starter(module):
        typer.echo(line)


def check(
    context: typer.Context,
    app: AppArgument = None,
    output: OutputOption = Output.TABLE,
    url: UrlOption = None,
    schemas: Annotated[
        bool, typer.Option("--schemas", help="Write the JSON Schema of each task's arguments and result, and no more.")
    ] = False,
) -> None:
    """Import the application, list its tasks, and look whether the database's schema fits."""
    import asyncio

    from goqueue.cli.output import Column, show_rows, write_json

    loaded = _load(app)
    loaded.check()
    if schemas:
        write_json(loaded.schemas())
        return
    columns = [Column("kind", whole=True), Column("queue"), Column("runs in"), Column("function")]
    rows = [
        (
            kind,
            task.queue,
            _where(task),
            f"{task.function.__module__}.{task.function.__qualname__}",
        )
        for kind, task in sorted(loaded.tasks.items())
    ]
    show_rows(output, columns, rows, empty="no tasks")
    asyncio.run(_check_schema(doors_of(context), url))


def _where(task: AnyTask) -> str:
    if task.batch is not None:
        return "batches"
    return "process" if task.run_in == "process" else "loop" if task.is_async else "thread"


async def _check_schema(doors: Doors, url: str | None) -> None:
    from goqueue.cli import logs
    from goqueue.cli.options import LogFormat
    from goqueue.model.errors import NotConfigured

    logs.configure(LogFormat.TEXT, source="check")  # to stderr: what is on stdout may be read by a program
    try:
        store = doors.store(url)
    except NotConfigured as error:
        typer.echo(f"schema not checked: {error}", err=True)
        return
    try:
        found = await store.schema()
        await store.open()
    finally:
        await store.close()
    typer.echo(f"schema {found.current}: as this version needs it", err=True)


def run(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(help="Which task.")],
    args: Annotated[str, typer.Argument(metavar="[JSON]", help="Arguments, a JSON object.")] = "{}",
    app: Annotated[str | None, typer.Option("--app", metavar="MODULE:APP", help="Your application.")] = None,
) -> None:
    """Run one handler here and now, as a worker would, on a store in memory: no database, no retries."""
    from goqueue.cli.foreground import run_once

    run_once(doors_of(context), _load(app), kind, args.encode("utf-8", "surrogateescape"))


def _load(name: str | None) -> GoQueue:
    from goqueue.cli import loading

    loading.add_working_folder()
    try:
        return loading.import_app(loading.app_name(name))
    except loading.CannotImport as error:
        loading.show_cause(error)
        raise
