"""How long final jobs stay in history, as parameters of the statements that end jobs."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from goqueue.store.postgres import pack

if TYPE_CHECKING:
    from goqueue.settings import Retention, StoreSettings

Kept: TypeAlias = tuple[float | None, float | None, float | None]
"""Seconds for completed, cancelled and dead jobs; None is for ever, 0 not at all."""

_encode = msgspec.json.Encoder().encode


def of_all(settings: StoreSettings) -> Kept:
    """Return the retentions of queues that have none of their own."""
    return (settings.completed_retention_s, settings.cancelled_retention_s, settings.dead_retention_s)


def of_queue(settings: StoreSettings, own: Retention) -> Kept:
    """Return the retentions of a queue: its own ones, and where it has none those of all."""
    completed_s, cancelled_s, dead_s = of_all(settings)
    return (
        completed_s if isinstance(own.completed_s, msgspec.UnsetType) else own.completed_s,
        cancelled_s if isinstance(own.cancelled_s, msgspec.UnsetType) else own.cancelled_s,
        dead_s if isinstance(own.dead_s, msgspec.UnsetType) else own.dead_s,
    )


def every(settings: StoreSettings) -> set[float | None]:
    """Return each retention that some job may have."""
    kept = {*of_all(settings)}
    return kept.union(*(of_queue(settings, own) for own in settings.queue_retention.values()))


def parameters(settings: StoreSettings) -> tuple[object, str | None]:
    """Return ``kept_s`` and ``kept_by_queue`` (null without queues of their own, so that plain settles pay nothing)."""
    by_queue = None
    if settings.queue_retention:
        own = {queue: of_queue(settings, retention) for queue, retention in settings.queue_retention.items()}
        by_queue = _encode(own).decode()
    return _packed(of_all(settings)), by_queue


def of_completed(settings: StoreSettings) -> str:
    """Return the retentions of completed jobs as a text, for processes that are given no settings."""
    own = {queue: of_queue(settings, retention)[0] for queue, retention in settings.queue_retention.items()}
    return _encode((of_all(settings)[0], own)).decode()


def completed_s(text: str, queue: str) -> float | None:
    """Return the retention of a queue's completed jobs from what `of_completed` has written."""
    of_others, own = _completed(text)
    return own.get(queue, of_others)


@lru_cache(maxsize=16)
def _completed(text: str) -> tuple[float | None, dict[str, float | None]]:
    return msgspec.json.decode(text, type=tuple[float | None, dict[str, float | None]])


@lru_cache(maxsize=64)  # every settle asks, and a process has few settings
def _packed(kept: Kept) -> pack.Float8Array:
    return pack.float8s(kept)
