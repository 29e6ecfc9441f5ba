"""Options that several commands share, and what they stand for."""

from __future__ import annotations

from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, cast

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from goqueue.cli.doors import Doors
    from goqueue.client._sync.client import Client
    from goqueue.tasks.app import GoQueue


class Output(StrEnum):
    """How a list is written."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


class LogFormat(StrEnum):
    """How log lines are written."""

    TEXT = "text"
    JSON = "json"


UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url", metavar="URL", help="Where to connect. Default: GOQUEUE_URL, \\[tool.goqueue], `goqueue dev`."
    ),
]
OutputOption = Annotated[Output, typer.Option("-o", "--output", help="How to write it.")]
LogFormatOption = Annotated[LogFormat, typer.Option("--log-format", help="How to write log lines.")]
AppArgument = Annotated[
    str | None,
    typer.Argument(metavar="[MODULE:APP]", help="Your application. Default: GOQUEUE_APP, \\[tool.goqueue] app."),
]
QueueOption = Annotated[list[str] | None, typer.Option("--queue", "-q", help="Only these queues. Repeatable.")]


def doors_of(context: typer.Context) -> Doors:
    """Return what `goqueue.cli.main.run` was given."""
    return cast("Doors", context.obj)


@contextmanager
def opened_client(context: typer.Context, url: str | None, app: GoQueue | None = None) -> Iterator[Client]:
    """Give a client, and close it.

    One connection is tried first: when it is refused we know at once, and why. A pool would go on trying for a while.
    """
    import asyncio

    doors = doors_of(context)
    where = doors.resolve(url)
    asyncio.run(_try_connection(doors, where))
    with doors.client(where, app) as client:
        yield client


async def _try_connection(doors: Doors, url: str) -> None:
    store = doors.store(url)
    try:
        await store.schema()
    finally:
        await store.close()
