"""`goqueue dev`, `goqueue server`, `goqueue worker`: what stays up until it is stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from goqueue.cli import parsing
from goqueue.cli.options import AppArgument, LogFormat, LogFormatOption, UrlOption, doors_of

PANEL = "Run"


def register(cli: typer.Typer) -> None:
    """Add these commands."""
    cli.command("dev", rich_help_panel=PANEL)(dev)
    cli.command("server", rich_help_panel=PANEL)(server)
    cli.command("worker", rich_help_panel=PANEL)(worker)


def dev(
    context: typer.Context,
    app: AppArgument = None,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port of the HTTP server; 0 picks a free one.")] = 8080,
    data_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where its PostgreSQL keeps its data. Default: in the project.")
    ] = None,
    log_format: LogFormatOption = LogFormat.TEXT,
) -> None:
    """Everything in one terminal: a PostgreSQL of the project's own, the server, a worker that reloads."""
    from goqueue.cli.dev.session import DevOptions, run

    run(doors_of(context), DevOptions(app=app, port=port, data_dir=data_dir, log_format=log_format))


def server(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Port; 0 picks a free one. Default: 8080.")
    ] = None,
    url: UrlOption = None,
    log_format: LogFormatOption = LogFormat.TEXT,
) -> None:
    """Serve jobs over HTTP, for any language."""
    from goqueue.cli.serving import run_server

    run_server(doors_of(context), url=url, host=host, port=port, log_format=log_format)


def worker(
    context: typer.Context,
    app: AppArgument = None,
    queues: Annotated[
        str | None,
        typer.Option(
            metavar="mail=50,default",
            help="Queues in order; NAME=N: N slots, and processes, of its own. Default: all that the tasks name.",
        ),
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Jobs at the same time in one process. Default: 50.")
    ] = None,
    processes: Annotated[int | None, typer.Option(min=1, help="Worker processes. Default: 1.")] = None,
    recycle_jobs: Annotated[
        int | None,
        typer.Option("--recycle-jobs", min=0, metavar="N", help="Replace a process after N jobs. Default: 0, never."),
    ] = None,
    recycle_memory: Annotated[
        int | None,
        typer.Option(
            "--recycle-memory",
            parser=parsing.size_bytes,
            metavar="SIZE",
            help="Replace a process that holds so much: 512MB.",
        ),
    ] = None,
    url: UrlOption = None,
    log_format: LogFormatOption = LogFormat.TEXT,
) -> None:
    """Run an application's jobs."""
    from goqueue.cli.working import run_worker

    run_worker(
        doors_of(context),
        app=app,
        queues=queues,
        concurrency=concurrency,
        processes=processes,
        recycle_jobs=recycle_jobs,
        recycle_memory_bytes=recycle_memory,
        url=url,
        log_format=log_format,
    )
