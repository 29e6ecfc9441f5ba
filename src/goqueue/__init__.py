"""GoQueue: background jobs in your own PostgreSQL.

The public names. They are imported when first used, so that ``import goqueue`` loads no driver and no web framework.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from goqueue.client._async.job import AsyncJob
    from goqueue.client._sync.job import Job
    from goqueue.model.job import NewJob, OnConflict, Unique
    from goqueue.tasks.app import GoQueue
    from goqueue.tasks.context import Context
    from goqueue.wiring import AsyncClient, Client

_HOME = {
    "AsyncClient": "goqueue.wiring",
    "AsyncJob": "goqueue.client._async.job",
    "Client": "goqueue.wiring",
    "Context": "goqueue.tasks.context",
    "GoQueue": "goqueue.tasks.app",
    "Job": "goqueue.client._sync.job",
    "NewJob": "goqueue.model.job",
    "OnConflict": "goqueue.model.job",
    "Unique": "goqueue.model.job",
}

__all__ = ["AsyncClient", "AsyncJob", "Client", "Context", "GoQueue", "Job", "NewJob", "OnConflict", "Unique"]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'goqueue' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
