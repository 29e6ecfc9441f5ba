# Generated from src/goqueue/client/_async/waits.py by scripts/unasync.py: change that and run `make generate`.
"""`Waits`: the part of the client that waits for many jobs at once."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, cast, overload

from goqueue.client import results
from goqueue.model.errors import ResultError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from goqueue.client._sync.job import Job
    from goqueue.client._sync.waiter import Waiter
    from goqueue.model.job import JobRef

R = TypeVar("R")


class Waits(Protocol):
    """Waits for jobs of one store."""

    _waiter: Waiter

    @overload
    def wait_all(
        self,
        jobs: Iterable[Job[R]],
        timeout_s: float | None = None,
        *,
        return_exceptions: Literal[False] = False,
        allow_in_handler: bool = False,
    ) -> list[R]: ...
    @overload
    def wait_all(
        self,
        jobs: Iterable[Job[R]],
        timeout_s: float | None = None,
        *,
        return_exceptions: Literal[True],
        allow_in_handler: bool = False,
    ) -> list[R | ResultError]: ...
    def wait_all(
        self,
        jobs: Iterable[Job[R]],
        timeout_s: float | None = None,
        *,
        return_exceptions: bool = False,
        allow_in_handler: bool = False,
    ) -> list[R] | list[R | ResultError]:
        """Wait until all of these jobs are final and return their results in order. Any number; twice is allowed.

        The first job that ends without a result raises at once what ``job.result()`` would raise: `JobFailed`,
        `JobCancelled`, `ResultGone`. After ``timeout_s`` seconds it is `ResultTimeout`. The jobs go on by themselves.
        With ``return_exceptions=True`` such errors stand in the list in their places, those of time included.

        Raises `StoreUnavailable`, `ClientClosed`, and `WouldDeadlock` inside a handler; see ``job.result``.
        """
        handles = list(jobs)
        self._check_waits(handles, timeout_s, allow_in_handler)
        found: dict[JobRef, object] = {}
        of_each: dict[JobRef, Job[R]] = {job.ref: job for job in handles}
        deadline = None if timeout_s is None else monotonic() + timeout_s
        party = self._waiter.join(of_each)
        try:
            while len(found) < len(of_each) and (answer := self._waiter.next(party, deadline)) is not None:
                ref, ended = answer
                job = of_each[ref]
                job.note_end(ended)
                try:
                    found[ref] = job.result()
                except ResultError as e:
                    if not return_exceptions:
                        raise
                    found[ref] = e
        finally:
            self._waiter.leave(party)
        left = len(of_each) - len(found)
        if left and not return_exceptions:
            raise results.not_all(left, len(of_each), timeout_s)
        values = [found[ref] if ref in found else results.timed_out(ref.id, timeout_s) for ref in map(_ref, handles)]
        return cast("list[R]", values)

    def as_completed(
        self, jobs: Iterable[Job[R]], timeout_s: float | None = None, *, allow_in_handler: bool = False
    ) -> Iterator[Job[R]]:
        """Yield these jobs as they become final, each once; ``result()`` of a job that was yielded returns at once.

        Also jobs that failed, were cancelled or are gone: their ``result()`` says so. Raises `ResultTimeout` when
        ``timeout_s`` seconds are over, and otherwise as `wait_all`.
        """
        handles = list(jobs)
        self._check_waits(handles, timeout_s, allow_in_handler)
        return self._completed(handles, timeout_s)

    def _completed(self, handles: list[Job[R]], timeout_s: float | None) -> Iterator[Job[R]]:
        left: dict[JobRef, Job[R]] = {}
        for job in handles:
            left.setdefault(job.ref, job)
        total = len(left)
        deadline = None if timeout_s is None else monotonic() + timeout_s
        party = self._waiter.join(left)
        try:
            while left:
                answer = self._waiter.next(party, deadline)
                if answer is None:
                    raise results.not_all(len(left), total, timeout_s)
                ref, ended = answer
                job = left.pop(ref)
                job.note_end(ended)
                yield job
        finally:
            self._waiter.leave(party)

    def _check_waits(self, jobs: list[Job[Any]], timeout_s: float | None, allow_in_handler: bool) -> None:
        self._enter()
        results.check_handles(self, jobs)
        results.check_wait(jobs[0].id if jobs else "", timeout_s, allow_in_handler or not jobs)

    # -- what the client brings -----------------------------------------------------------------------

    def _enter(self) -> None: ...


def _ref(job: Job[Any]) -> JobRef:
    return job.ref
