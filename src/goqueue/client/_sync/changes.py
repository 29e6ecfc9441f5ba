# Generated from src/goqueue/client/_async/changes.py by scripts/unasync.py: change that and run `make generate`.
"""`AsyncChanges`: the part of the client that cancels, retries and deletes jobs, one by one or by filter."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Protocol

from goqueue.client import many, results
from goqueue.client._sync.primitives import sleep
from goqueue.client.many import ChangedMany, Lot, RetriedMany
from goqueue.model import limits
from goqueue.model.errors import StoreUnavailable
from goqueue.model.query import CancelJobs, ChangeStatus, DeleteJobs, RetryJobs, Selection
from goqueue.model.state import JobState
from goqueue.tasks.prepare import check_id, text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from goqueue.model.job import JobRecord
    from goqueue.model.query import Change, Query
    from goqueue.settings import ClientSettings
    from goqueue.store.jobs_sync import JobStore
    from goqueue.tasks.app import AnyTask, GoQueue

_DEAD = (JobState.DEAD,)
_NOT_FINAL = (JobState.SCHEDULED, JobState.READY, JobState.RUNNING, JobState.RETRYING, JobState.BLOCKED)


class AsyncChanges(Protocol):
    """Changes jobs of one store."""

    _app: GoQueue | None
    _tenant: str
    _settings: ClientSettings

    # -- one ----------------------------------------------------------------------------------------

    def cancel(self, id: str, *, reason: str = "") -> ChangeStatus:
        """Cancel a waiting job at once (``changed``), ask a running one to stop (``requested``).

        ``unchanged`` if it is cancelled already. Raises `JobNotFound`, `WrongState`, `Unavailable` for a locked job.
        """
        text(reason, "/reason", limits.REASON_CHARS_MAX)
        return self._change(id, "cancel", CancelJobs(reason))

    def retry(self, id: str, args: Mapping[str, object] | None = None) -> ChangeStatus:
        """Make a final job ready again, with at least one more attempt, and a waiting one due now.

        With ``args`` a final job runs with these arguments instead of its own: JSON types, or, if this client has the
        application, whatever the task's signature takes. Raises `InvalidArguments`, which names the argument.

        Raises `JobNotFound`, `WrongState`, `UniqueConflict` if another job holds its key now, `Unavailable`.
        """
        if args is None:
            return self._change(id, "retry", RetryJobs())
        task = self._task((self._record(check_id(id))).kind) if self._app is not None else None
        return self._change(
            id, "edit and retry", RetryJobs(many.edited_args(args, task), version=many.version_of(task))
        )

    def delete(self, id: str) -> None:
        """Remove a job that does not run, with all that is known of it.

        Raises `JobNotFound`, `WrongState` for a running job, `Unavailable` for a locked one.
        """
        self._change(id, "delete", DeleteJobs())

    def _change(self, id: str, what: str, change: Change) -> ChangeStatus:
        selection = Selection(self._tenant, (check_id(id),))
        for tries in range(1, self._settings.change_tries + 1):
            store = self._open()
            status = (store.change(selection, change))[0].status
            if status is not ChangeStatus.BUSY:
                break
            if tries < self._settings.change_tries:
                sleep(results.pause_s(self._settings, tries))
        return results.checked_status(id, what, status)

    # -- many ---------------------------------------------------------------------------------------

    def retry_many(
        self,
        *,
        states: Sequence[JobState | str] = _DEAD,
        queues: Sequence[str] = (),
        kinds: Sequence[str] = (),
        tags: Sequence[str] = (),
        ids: Sequence[str] = (),
        reasons: Sequence[str] = (),
        errors: Sequence[str] = (),
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        finished_after: datetime | None = None,
        finished_before: datetime | None = None,
        args: Mapping[str, object] | None = None,
        rate: float | None = None,
        limit: int | None = None,
        dry_run: bool = False,
        progress: Callable[[RetriedMany], None] | None = None,
    ) -> RetriedMany:
        """Retry all jobs for which the conditions hold, by default dead ones, newest first. Conditions as in `find`.

        ``reasons`` and ``errors`` (types of the last error, with or without module) narrow it down further. With
        ``rate`` they come back so many in a second: each gets its turn at once, durably, so nobody has to wait for it.
        ``args``: new arguments for all of them; they must be of one kind. ``limit``: at most so many. ``dry_run`` only
        counts. ``progress`` is called after each selection of at most 500 jobs.

        Each job is retried by itself: what is not possible is counted in ``skipped``. Calling it again after an error
        goes on with the jobs that are left. Raises `InvalidQuery`, `InvalidArguments`, `StoreUnavailable`.
        """
        many.check_args_kinds(args, kinds)
        task = None if args is None else self._task(kinds[0])
        raw = None if args is None else many.edited_args(args, task)
        query = self._lot_query(
            states, queues, kinds, tags, ids, created_after, created_before, finished_after, finished_before
        )

        def make(delay_s: float, every_s: float) -> Change:
            return RetryJobs(raw, delay_s, every_s, many.version_of(task))

        lot = Lot(query, make, reasons=reasons, errors=errors, limit=limit, rate=rate, dry_run=dry_run)
        self._change_lot(lot, (lambda: progress(lot.retried(monotonic()))) if progress else None)
        return lot.retried(monotonic())

    def cancel_many(
        self,
        *,
        states: Sequence[JobState | str] = _NOT_FINAL,
        queues: Sequence[str] = (),
        kinds: Sequence[str] = (),
        tags: Sequence[str] = (),
        ids: Sequence[str] = (),
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        reason: str = "",
        limit: int | None = None,
        dry_run: bool = False,
        progress: Callable[[ChangedMany], None] | None = None,
    ) -> ChangedMany:
        """Cancel all jobs for which the conditions hold, by default all that are not final. Else as `retry_many`."""
        text(reason, "/reason", limits.REASON_CHARS_MAX)
        query = self._lot_query(states, queues, kinds, tags, ids, created_after, created_before)
        lot = Lot(query, lambda _delay_s, _every_s: CancelJobs(reason), limit=limit, dry_run=dry_run)
        self._change_lot(lot, (lambda: progress(lot.changed())) if progress else None)
        return lot.changed()

    def delete_many(
        self,
        *,
        states: Sequence[JobState | str],
        queues: Sequence[str] = (),
        kinds: Sequence[str] = (),
        tags: Sequence[str] = (),
        ids: Sequence[str] = (),
        reasons: Sequence[str] = (),
        errors: Sequence[str] = (),
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        finished_after: datetime | None = None,
        finished_before: datetime | None = None,
        limit: int | None = None,
        dry_run: bool = False,
        progress: Callable[[ChangedMany], None] | None = None,
    ) -> ChangedMany:
        """Delete all jobs in these states for which the conditions hold; none that runs. Else as `retry_many`."""
        query = self._lot_query(
            states, queues, kinds, tags, ids, created_after, created_before, finished_after, finished_before
        )
        lot = Lot(
            query,
            lambda _delay_s, _every_s: DeleteJobs(),
            reasons=reasons,
            errors=errors,
            limit=limit,
            dry_run=dry_run,
        )
        self._change_lot(lot, (lambda: progress(lot.changed())) if progress else None)
        return lot.changed()

    def _change_lot(self, lot: Lot, told: Callable[[], None] | None) -> None:
        """Read and change in turns, one selection of ids in memory, until all has been read."""
        try:
            while lot.query is not None:
                store = self._open()
                lot.read(store.find(lot.query))
                while ids := lot.selection(monotonic()):
                    self._change_selection(lot, ids)
                    if told is not None:
                        told()
        except StoreUnavailable as e:
            e.add_note(lot.so_far())
            raise

    def _change_selection(self, lot: Lot, ids: tuple[str, ...]) -> None:
        for tries in range(1, self._settings.change_tries + 1):
            store = self._open()
            change = lot.change(monotonic())
            ids = lot.answered(change, store.change(Selection(self._tenant, ids), change), monotonic())
            if not ids:
                return
            if tries < self._settings.change_tries:
                sleep(results.pause_s(self._settings, tries))
        lot.give_up(ids)

    def _lot_query(
        self,
        states: Sequence[JobState | str],
        queues: Sequence[str],
        kinds: Sequence[str],
        tags: Sequence[str],
        ids: Sequence[str],
        created_after: datetime | None,
        created_before: datetime | None,
        finished_after: datetime | None = None,
        finished_before: datetime | None = None,
    ) -> Query:
        return results.query(
            tenant=self._tenant,
            ids=ids,
            states=states,
            queues=queues,
            kinds=kinds,
            tags=tags,
            created_after=created_after,
            created_before=created_before,
            finished_after=finished_after,
            finished_before=finished_before,
            page_size=many.READ_MAX,
            page_token="",
        )

    def _task(self, kind: str) -> AnyTask | None:
        return self._app.runs.get(kind) if self._app is not None else None

    # -- what the client brings -----------------------------------------------------------------------

    def _open(self) -> JobStore: ...

    def _record(self, id: str) -> JobRecord: ...
