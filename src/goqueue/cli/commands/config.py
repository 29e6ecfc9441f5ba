"""`goqueue config`: every setting, and where its value came from."""

from __future__ import annotations

from typing import Annotated

import typer

from goqueue.cli.options import Output, OutputOption


def register(cli: typer.Typer) -> None:
    """Add this command."""
    cli.command("config", rich_help_panel="Operate")(config)


def config(
    prefix: Annotated[
        str, typer.Argument(metavar="[NAME]", help="Only settings that start so: worker, store.pool_max.")
    ] = "",
    changed: Annotated[bool, typer.Option("--changed", help="Only those that are not at their default.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show every setting, its value and where that came from: environment, file or default."""
    from goqueue.cli.masking import masked
    from goqueue.cli.output import Column, show_rows
    from goqueue.configuration import DEFAULT, configuration
    from goqueue.model.errors import InvalidSetting

    values = [value for value in configuration().values if value.name.startswith(prefix)]
    if not values:
        raise InvalidSetting(f"no setting starts with {prefix}: `goqueue config` lists them all")
    rows = [
        (value.name, masked(value.value) if isinstance(value.value, str) else value.value, value.source, value.meaning)
        for value in values
        if not (changed and value.source == DEFAULT)
    ]
    columns = [Column("setting", whole=True), Column("value"), Column("source"), Column("meaning")]
    show_rows(output, columns, rows, empty="every setting is at its default")
