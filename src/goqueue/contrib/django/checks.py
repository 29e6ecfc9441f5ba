"""What `manage.py check` finds: no application, no URL; with ``--database default`` also a schema that is missing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from django.core.checks import Error, Warning, register  # noqa: A004  Django's name for it

from goqueue.contrib.django import conf
from goqueue.model.errors import GoQueueError, SchemaError
from goqueue.wiring import open_store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.core.checks import CheckMessage


@register("goqueue")
def check_settings(**_: Any) -> list[CheckMessage]:  # Any: Django's arguments of all checks
    """Look whether there is an application, and somewhere to connect."""
    found: list[CheckMessage] = []
    try:
        conf.app()
    except GoQueueError as error:
        found.append(Error(str(error), id="goqueue.E001"))
    try:
        conf.url()
    except GoQueueError as error:
        found.append(Warning(str(error), id="goqueue.W001"))
    return found


@register("goqueue", "database")
def check_schema(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:  # Any: as above
    """Look whether the database has the schema; only when Django is told to look into databases."""
    if not databases:
        return []
    try:
        asyncio.run(_open(conf.url()))
    except SchemaError as error:
        return [Warning(str(error), hint="manage.py goqueue_migrate", id="goqueue.W002")]
    except GoQueueError:
        return []  # no URL was said above; a server that is away is not found here
    return []


async def _open(url: str) -> None:
    store = open_store(url)
    try:
        await store.open()
    finally:
        await store.close()
