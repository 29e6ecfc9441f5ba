"""`goqueue queues`: how much waits where."""

from __future__ import annotations

import typer

from goqueue.cli.options import Output, OutputOption, UrlOption, opened_client


def register(cli: typer.Typer) -> None:
    """Add these commands."""
    group = typer.Typer(help="Queues: what waits where.", no_args_is_help=True)
    group.command("list")(list_)
    cli.add_typer(group, name="queues", rich_help_panel="Jobs")


def list_(context: typer.Context, output: OutputOption = Output.TABLE, url: UrlOption = None) -> None:
    """List queues that have jobs which are not final, and how many in each state (~: an estimate)."""
    from goqueue.cli.output import Column, show_rows

    with opened_client(context, url) as client:
        counts = client.counts()
    states = ("ready", "running", "retrying", "scheduled", "blocked")
    table: dict[str, dict[str, str]] = {}
    for count in counts:
        table.setdefault(count.queue, {})[str(count.state)] = f"{'~' if count.approximate else ''}{count.count}"
    columns = [Column("queue", whole=True), *(Column(state, right=True) for state in states)]
    rows = [(queue, *(row.get(state, "0") for state in states)) for queue, row in sorted(table.items())]
    show_rows(output, columns, rows, empty="no jobs wait or run", records=counts)
