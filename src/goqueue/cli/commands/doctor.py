"""`goqueue doctor`: what hurts, or will, and what to do about it."""

from __future__ import annotations

from typing import Annotated

import typer

from goqueue.cli.options import Output, OutputOption, UrlOption, doors_of


def register(cli: typer.Typer) -> None:
    """Add this command."""
    cli.command("doctor", rich_help_panel="Operate")(doctor)


def doctor(
    context: typer.Context,
    strict: Annotated[bool, typer.Option("--strict", help="A warning gives exit code 1, too.")] = False,
    output: OutputOption = Output.TABLE,
    url: UrlOption = None,
) -> None:
    """Look at the settings, the schema and the database, and say what to do. Changes nothing.

    Worst first. Exit code 0 if nothing is an error, 1 if something is, 5 if the database does not answer.
    """
    import asyncio

    from goqueue.cli.checkup import exit_code, look, show

    checkup = asyncio.run(look(doors_of(context), url))
    show(checkup.findings, output)
    if code := exit_code(checkup, strict=strict):
        raise typer.Exit(code)
