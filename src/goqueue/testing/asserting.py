"""Which jobs has the code under test enqueued? Looks, and what to say when it is not as expected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from goqueue.tasks import encoding
from goqueue.testing.faults import kind_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from goqueue.model.job import JobRecord
    from goqueue.model.state import JobState
    from goqueue.store.memory import Memory
    from goqueue.tasks.app import AnyTask

SHOWN_MAX = 20


class Wanted:
    """Conditions on a job; None does not restrict."""

    def __init__(
        self,
        task: AnyTask | str | None = None,
        *,
        args: Mapping[str, object] | None = None,
        queue: str | None = None,
        state: JobState | str | None = None,
        tags: Sequence[str] = (),
        meta: Mapping[str, str] | None = None,
        unique_key: str | None = None,
        run_at: datetime | None = None,
        priority: int | None = None,
    ) -> None:
        self._kind = kind_of(task)
        self._args = None if args is None else msgspec.json.decode(encoding.encoder.encode(dict(args)))
        self._tags = frozenset(tags)
        self._meta = dict(meta or {})
        exact = {"queue": queue, "state": state, "unique_key": unique_key, "run_at": run_at, "priority": priority}
        self._exact = {name: value for name, value in exact.items() if value is not None}

    def matches(self, job: JobRecord) -> bool:
        """Tell whether a job is as wanted. Of ``args``, ``tags`` and ``meta`` it must have all that is named."""
        if self._kind is not None and job.kind != self._kind:
            return False
        if self._args is not None and not includes(args_of(job), self._args):
            return False
        if not self._tags <= set(job.tags) or not self._meta.items() <= job.meta.items():
            return False
        return all(getattr(job, name) == value for name, value in self._exact.items())

    def __str__(self) -> str:
        parts = [] if self._kind is None else [self._kind]
        parts += [f"args={self._args}"] if self._args is not None else []
        parts += [f"tags={sorted(self._tags)}"] if self._tags else []
        parts += [f"meta={self._meta}"] if self._meta else []
        return " ".join([*parts, *(f"{name}={value}" for name, value in self._exact.items())]) or "any job"


def all_jobs(memory: Memory) -> list[JobRecord]:
    """Return every job that the store knows, in the order of their enqueue."""
    with memory.verb():
        rows = [*memory.live.values(), *memory.past.values()]
        return [row.record(memory.now()) for row in sorted(rows, key=lambda row: row.job.id)]


def args_of(job: JobRecord) -> Any:  # JSON of the application's own
    """Return a job's arguments as plain values."""
    return msgspec.json.decode(bytes(job.args))


def includes(whole: object, part: object) -> bool:
    """Tell whether ``whole`` is ``part``, or an object that has all of its fields; so at every depth of objects."""
    if isinstance(whole, dict) and isinstance(part, dict):
        return all(name in whole and includes(whole[name], value) for name, value in part.items())
    return (type(whole) is type(part) and whole == part) or _same_number(whole, part)


def _same_number(one: object, other: object) -> bool:
    both = (one, other)
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in both) and one == other


def listing(jobs: Sequence[JobRecord]) -> str:
    """Say in lines which jobs there are."""
    lines = [
        f"  {job.kind} {bytes(job.args).decode()} queue={job.queue} state={job.state} run_at={job.run_at.isoformat()}"
        for job in jobs[-SHOWN_MAX:]
    ]
    more = [f"  … and {len(jobs) - SHOWN_MAX} before them"] if len(jobs) > SHOWN_MAX else []
    return "\n".join(["There are these:", *more, *lines] if jobs else ["There are no jobs at all."])
