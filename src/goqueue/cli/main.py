"""`goqueue`: one command group per file under ``commands/``. What a command needs, it imports when it runs."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from goqueue.cli import report
from goqueue.cli.commands import apps, config, db, doctor, enqueue, jobs, queues, serving
from goqueue.model.errors import GoQueueError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from goqueue.cli.doors import Doors


def build() -> typer.Typer:
    """Return the command line as a Typer application."""
    cli = typer.Typer(
        name="goqueue",
        help="Background jobs on PostgreSQL. Start with `goqueue dev`, which brings its own.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @cli.callback()
    def root(
        version: Annotated[
            bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
        ] = False,
    ) -> None:
        pass

    for group in (serving, enqueue, jobs, queues, db, doctor, config, apps):
        group.register(cli)
    return cli


def run(doors: Doors, arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code. Every `GoQueueError` becomes one line on stderr."""
    try:
        build()(args=arguments, obj=doors, prog_name="goqueue")
    except SystemExit as end:
        code = _as_int(end.code)
    except GoQueueError as error:
        report.tell(error)
        code = report.exit_code(error)
    except KeyboardInterrupt:
        code = report.INTERRUPTED
    else:
        code = 0
    return _flush(code)


def _as_int(code: object) -> int:
    if isinstance(code, int):
        return code
    return 0 if code is None else report.FAILED


def _flush(code: int) -> int:
    try:
        sys.stdout.flush()
    except OSError:  # who reads has gone (`goqueue jobs list | head`): nothing is wrong
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return code


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"goqueue {version('goqueue')}")
        raise typer.Exit
