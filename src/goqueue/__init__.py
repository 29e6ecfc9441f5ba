"""GoQueue: background jobs in your own PostgreSQL.

The public names. They are imported when first used, so that ``import goqueue`` loads no driver and no web framework.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from goqueue.client._async.job import AsyncJob
    from goqueue.client._sync.job import Job
    from goqueue.client.bulk import EnqueuedMany
    from goqueue.client.many import ChangedMany, RetriedMany
    from goqueue.model.errors import (
        ClientClosed,
        ConfigurationError,
        GoQueueError,
        JobCancelled,
        JobFailed,
        LeaseLost,
        ResultGone,
        ResultTimeout,
        StoreUnavailable,
        UniqueConflict,
        WrongLoop,
    )
    from goqueue.model.job import NewJob, OnConflict, Unique
    from goqueue.model.query import Enqueued
    from goqueue.model.retry import Jitter
    from goqueue.model.state import JobState
    from goqueue.tasks.app import GoQueue
    from goqueue.tasks.batch import BatchContext
    from goqueue.tasks.context import Context
    from goqueue.tasks.middleware import Middleware
    from goqueue.tasks.prepare import new_id
    from goqueue.tasks.retry import RetryPolicy
    from goqueue.tasks.signals import CancelJob, DeadJob, JobSignal, RetryJob, SnoozeJob
    from goqueue.wiring import AsyncClient, Client

_HOME = {
    "AsyncClient": "goqueue.wiring",
    "AsyncJob": "goqueue.client._async.job",
    "BatchContext": "goqueue.tasks.batch",
    "CancelJob": "goqueue.tasks.signals",
    "ChangedMany": "goqueue.client.many",
    "Client": "goqueue.wiring",
    "ClientClosed": "goqueue.model.errors",
    "ConfigurationError": "goqueue.model.errors",
    "Context": "goqueue.tasks.context",
    "DeadJob": "goqueue.tasks.signals",
    "Enqueued": "goqueue.model.query",
    "EnqueuedMany": "goqueue.client.bulk",
    "GoQueue": "goqueue.tasks.app",
    "GoQueueError": "goqueue.model.errors",
    "Jitter": "goqueue.model.retry",
    "Job": "goqueue.client._sync.job",
    "JobCancelled": "goqueue.model.errors",
    "JobFailed": "goqueue.model.errors",
    "JobSignal": "goqueue.tasks.signals",
    "JobState": "goqueue.model.state",
    "LeaseLost": "goqueue.model.errors",
    "Middleware": "goqueue.tasks.middleware",
    "NewJob": "goqueue.model.job",
    "OnConflict": "goqueue.model.job",
    "ResultGone": "goqueue.model.errors",
    "ResultTimeout": "goqueue.model.errors",
    "RetriedMany": "goqueue.client.many",
    "RetryJob": "goqueue.tasks.signals",
    "RetryPolicy": "goqueue.tasks.retry",
    "SnoozeJob": "goqueue.tasks.signals",
    "StoreUnavailable": "goqueue.model.errors",
    "Unique": "goqueue.model.job",
    "UniqueConflict": "goqueue.model.errors",
    "WrongLoop": "goqueue.model.errors",
    "new_id": "goqueue.tasks.prepare",
}

__all__ = [
    "AsyncClient",
    "AsyncJob",
    "BatchContext",
    "CancelJob",
    "ChangedMany",
    "Client",
    "ClientClosed",
    "ConfigurationError",
    "Context",
    "DeadJob",
    "Enqueued",
    "EnqueuedMany",
    "GoQueue",
    "GoQueueError",
    "Jitter",
    "Job",
    "JobCancelled",
    "JobFailed",
    "JobSignal",
    "JobState",
    "LeaseLost",
    "Middleware",
    "NewJob",
    "OnConflict",
    "ResultGone",
    "ResultTimeout",
    "RetriedMany",
    "RetryJob",
    "RetryPolicy",
    "SnoozeJob",
    "StoreUnavailable",
    "Unique",
    "UniqueConflict",
    "WrongLoop",
    "new_id",
]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'goqueue' has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
