"""What hurts whoever uses this store for more than a model, and jobs that nobody will run."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from goqueue.model.admin import Finding, Level
from goqueue.model.outcome import UNKNOWN_KIND
from goqueue.model.state import StoredState

if TYPE_CHECKING:
    from goqueue.store.memory.core import Memory


def diagnose(memory: Memory) -> list[Finding]:
    """Look at durability, queues and kinds."""
    durability = Finding(
        check="durability",
        level=Level.WARNING,
        text="jobs are kept in the memory of one process, and end with it",
        do="use it for tests only: set GOQUEUE_URL to a PostgreSQL",
    )
    return [durability, *_queues(memory), _kinds(memory)]


def _queues(memory: Memory) -> list[Finding]:
    waiting = [
        row.job for row in memory.live.values() if row.state is StoredState.WAITING and row.run_at <= memory.now()
    ]
    due = Counter((job.tenant, job.queue) for job in waiting)
    paused = [f"{tenant}/{queue} ({due[tenant, queue]} ready)" for tenant, queue in sorted(memory.paused)]
    unserved = [
        f"{tenant}/{queue} ({count} ready)"
        for (tenant, queue), count in sorted(due.items())
        if (tenant, queue) not in memory.paused and not _served(memory, tenant, queue)
    ]
    return [
        _named("unserved_queues", "no live worker takes jobs from", unserved, "start a worker for them"),
        _named("pauses", "paused", paused, "resume them, if that is over", bad=any(due[q] for q in memory.paused)),
    ]


def _kinds(memory: Memory) -> Finding:
    unknown = Counter(
        row.job.kind
        for row in memory.live.values()
        if row.state is StoredState.WAITING and (row.reason or "").startswith(UNKNOWN_KIND)
    )
    told = [f"{kind} ({count})" for kind, count in sorted(unknown.items())]
    text = "put off for want of a task of their kind"
    return _named("unknown_kinds", text, told, "start workers of the application that has these tasks")


def _served(memory: Memory, tenant: str, queue: str) -> bool:
    return any(
        owner == tenant and not memory.expired(worker.expires_at) and not worker.draining and queue in worker.queues
        for (owner, _), worker in memory.workers.items()
    )


def _named(check: str, text: str, names: list[str], do: str, *, bad: bool = True) -> Finding:
    if not names:
        return Finding(check=check, level=Level.OK, text="nothing was found")
    level = Level.WARNING if bad else Level.OK
    return Finding(check=check, level=level, text=f"{text}: {', '.join(names)}", do=do)
