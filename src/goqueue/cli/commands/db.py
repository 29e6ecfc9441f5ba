"""`goqueue db`: the schema of the database, and who may do what with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from goqueue.cli.doors import Access
from goqueue.cli.options import Output, UrlOption, doors_of

if TYPE_CHECKING:
    from goqueue.cli.doors import Doors
    from goqueue.model.admin import SchemaStatus


def register(cli: typer.Typer) -> None:
    """Add these commands."""
    group = typer.Typer(help="The database: schema, roles, URL.", no_args_is_help=True)
    group.command("migrate")(migrate)
    group.command("status")(status)
    group.command("sql")(sql)
    group.command("grant")(grant)
    group.command("url")(url)
    cli.add_typer(group, name="db", rich_help_panel="Operate")


def migrate(context: typer.Context, url: UrlOption = None) -> None:
    """Bring the schema to what this version needs. Safe to run from many processes at once."""
    import asyncio

    before, after = asyncio.run(_migrate(doors_of(context), url))
    if before.current == after.current:
        typer.echo(f"schema {after.current}: nothing to do")
    else:
        typer.echo(f"schema {before.current} -> {after.current}: {', '.join(before.pending)}")


async def _migrate(doors: Doors, url: str | None) -> tuple[SchemaStatus, SchemaStatus]:
    store = doors.store(url)
    try:
        return await store.schema(), await store.migrate()
    finally:
        await store.close()


def status(
    context: typer.Context,
    url: UrlOption = None,
    output: Annotated[Output, typer.Option("-o", "--output", help="How to write it.")] = Output.TABLE,
) -> None:
    """Tell which schema the database has. Exit code 1 if it does not fit this version."""
    import asyncio

    from goqueue.cli.output import show_fields, write_json

    found = asyncio.run(_status(doors_of(context), url))
    if output is Output.JSON:
        write_json(found)
    else:
        pending = ", ".join(found.pending)
        show_fields(
            [
                ("schema", found.current or "none"),
                ("wanted", found.target),
                ("applied", found.applied_at),
                ("pending", f"{pending}: run `goqueue db migrate`" if pending else "nothing"),
            ]
        )
    if found.current != found.target:
        raise typer.Exit(1)


async def _status(doors: Doors, url: str | None) -> SchemaStatus:
    store = doors.store(url)
    try:
        return await store.schema()
    finally:
        await store.close()


def sql(context: typer.Context) -> None:
    """Print all migrations as one SQL script, for those who apply them with tools of their own."""
    typer.echo(doors_of(context).migration_script(), nl=False)


def grant(
    context: typer.Context,
    role: Annotated[str, typer.Argument(help="A role that exists: CREATE ROLE … LOGIN makes one.")],
    access: Annotated[Access, typer.Option("--as", help="What the role is to be good for.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the statements.")] = False,
    url: UrlOption = None,
) -> None:
    """Give a database role the rights that it needs, and no others. Prints the statements."""
    import asyncio

    for statement in asyncio.run(doors_of(context).grant(url, role, access, dry_run=dry_run)):
        typer.echo(f"{statement};")


def url(
    context: typer.Context,
    url: UrlOption = None,
    data_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="That of a `goqueue dev` which was given one.")
    ] = None,
) -> None:
    """Print where this project's commands connect, with the password: for GOQUEUE_URL elsewhere."""
    if data_dir is not None:
        from goqueue.cli.dev.place import attach
        from goqueue.model.errors import NotConfigured

        found = attach(data_dir)
        if found is None:
            raise NotConfigured(f"no `goqueue dev` runs on {data_dir}: start one with --data-dir {data_dir}")
        typer.echo(found)
    else:
        typer.echo(doors_of(context).resolve(url))
