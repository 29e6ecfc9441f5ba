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
    """Show every setting, its value and where that came from: environment, file or default.

    Name one setting (`goqueue config store.queue_retention`) to be shown how it is written.
    """
    from goqueue.cli.output import Column, show_rows
    from goqueue.configuration import DEFAULT, configuration
    from goqueue.model.errors import InvalidSetting

    values = [value for value in configuration().values if value.name.startswith(prefix)]
    if not values:
        raise InvalidSetting(f"no setting starts with {prefix}: `goqueue config` lists them all")
    rows = [
        (value.name, _shown(value.value, for_json=output is Output.JSON), value.source, value.meaning)
        for value in values
        if not (changed and value.source == DEFAULT)
    ]
    columns = [Column("setting", whole=True), Column("value"), Column("source"), Column("meaning")]
    show_rows(output, columns, rows, empty="every setting is at its default")
    if output is Output.TABLE and len(values) == 1 and "." in prefix:
        typer.echo(_how_to_write(values[0].name), err=True)


def _shown(value: object, *, for_json: bool) -> object:
    from goqueue.cli.masking import masked

    if isinstance(value, str):
        return masked(value)
    if isinstance(value, dict) and not for_json:  # as it can be given in the environment
        import msgspec

        return msgspec.json.encode(value).decode()
    return value


def _how_to_write(name: str) -> str:
    group, _, field = name.partition(".")
    variable = f"GOQUEUE_{group}_{field}".upper()
    if name == "store.queue_retention":
        return (
            f'in the environment: {variable}=\'{{"mail": {{"completed_s": 3600, "dead_s": null}}}}\'\n'
            f"in pyproject.toml:   [tool.goqueue.store.queue_retention.mail]\n"
            f"                     completed_s = 3600\n"
            f'                     dead_s = "null"    # for ever: TOML has no null'
        )
    return f"in the environment: {variable}=…\nin pyproject.toml:   {field} = … under [tool.goqueue.{group}]"
