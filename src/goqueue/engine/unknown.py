"""Jobs of kinds that this worker lacks: put off, without spending an attempt, until a worker comes that has them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from goqueue.model import limits
from goqueue.model.job import VERSION_KEY
from goqueue.model.outcome import UNKNOWN_KIND, Snooze

if TYPE_CHECKING:
    from goqueue.model.lease import Lease
    from goqueue.settings import WorkerSettings
    from goqueue.tasks.app import AnyTask

KINDS_MAX: Final = 1_000
"""Kinds that are remembered; beyond it all begin again with the shortest snooze."""

log = structlog.get_logger("goqueue.engine")


class UnknownKinds:
    """For each kind a snooze that doubles from ``unknown_kind_s`` to ``unknown_kind_max_s``."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._growing: dict[str, _Growing] = {}

    def snooze(self, lease: Lease, task: AnyTask | None) -> Snooze:
        """Put this job off. The first of a kind is logged; the reason is kept with each job.

        With a ``task`` it is of a kind that is known, but its arguments are of a version that is newer.
        """
        if task is None:
            reason = f"{UNKNOWN_KIND} {lease.kind!r} in this worker"
            return self._snooze(lease, lease.kind, reason, "no task of this kind in this worker")
        said = (msgspec.json.decode(lease.meta) if lease.meta else {}).get(VERSION_KEY, "")[:20]
        reason = (
            f"its arguments are of version {said}, this worker's {lease.kind!r} knows up to {task.version}: update it"
        )
        return self._snooze(lease, f"{lease.kind} {said}", reason, reason)

    def _snooze(self, lease: Lease, name: str, reason: str, logged: str) -> Snooze:
        growing = self._growing.get(name)
        if growing is None:
            if len(self._growing) >= KINDS_MAX:
                self._growing.clear()
            growing = self._growing[name] = _Growing(self._settings)
            log.warning("snooze", kind=lease.kind, job_id=lease.id, reason=logged)
        return Snooze(growing.next_s(), reason[: limits.REASON_CHARS_MAX])


class _Growing:
    """Doubles once the last snooze has passed, however many jobs there are of the kind."""

    __slots__ = ("_delay_s", "_grow_at", "_max_s")

    def __init__(self, settings: WorkerSettings) -> None:
        self._max_s = settings.unknown_kind_max_s
        self._delay_s = min(settings.unknown_kind_s, self._max_s)
        self._grow_at = time.monotonic() + self._delay_s

    def next_s(self) -> float:
        """Return the seconds until the next try."""
        now = time.monotonic()
        if now >= self._grow_at:
            self._delay_s = min(self._delay_s * 2, self._max_s)
            self._grow_at = now + self._delay_s
        return self._delay_s
