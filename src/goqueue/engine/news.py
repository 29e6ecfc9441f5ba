"""What handlers have said (progress, lines of their logs), on its way to the store with a beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from goqueue.model import limits
from goqueue.model.lease import Held

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from goqueue.engine.running import Running
    from goqueue.model.job import JobRef
    from goqueue.model.lease import Lease


def held(running: Iterable[Running], waiting: Iterable[Lease]) -> tuple[Held, ...]:
    """List leases for a beat, with the progress and the lines that are new: `limits.LOGS_SENT_MAX` of these."""
    lines_left = limits.LOGS_SENT_MAX
    listed: list[Held] = []
    for run in running:
        logs = run.news(lines_left) if run.logs and lines_left else ()
        lines_left -= len(logs)
        listed.append(Held(run.lease.ref, run.lease.fence, run.progress, logs))
    return (*listed, *(Held(lease.ref, lease.fence) for lease in waiting))


def said(running: Mapping[str, Running], sent: Iterable[Held], unkept: Collection[JobRef]) -> None:
    """Forget what a beat has brought to the store, except of jobs that were locked there (``unkept``)."""
    for one in sent:
        if (one.progress is not None or one.logs) and one.ref not in unkept:
            run = running.get(one.ref.id)
            if run is not None and run.lease.fence == one.fence:
                run.sent(one)
