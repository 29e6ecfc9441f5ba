# Generated from src/goqueue/client/_async/client.py by scripts/unasync.py: change that and run `make generate`.
"""`Client`: stores jobs, finds them, changes them, waits for their results.

It knows no store by name: it is made with a function that makes one. `goqueue.wiring` does that for users, from a URL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from goqueue.client import many, results
from goqueue.client._sync.bulk import Bulk
from goqueue.client._sync.changes import AsyncChanges
from goqueue.client._sync.job import Job
from goqueue.client._sync.life import Life
from goqueue.client._sync.primitives import sleep
from goqueue.client._sync.waits import Waits
from goqueue.client.batch import Batch
from goqueue.model import limits
from goqueue.model.errors import (
    Conflict,
    DefinitionError,
    IdConflict,
    InvalidInput,
    NotSent,
    StoreUnavailable,
)
from goqueue.model.job import DEFAULT_TENANT, NewJob
from goqueue.model.query import EnqueueStatus, Filter
from goqueue.settings import ClientSettings
from goqueue.tasks.context import conflict_of
from goqueue.tasks.onion import around_enqueue
from goqueue.tasks.prepare import check_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from goqueue.client._sync.transactions import Transactions
    from goqueue.model.job import JobRecord, JobRef
    from goqueue.model.query import Count, Enqueued
    from goqueue.model.state import JobState
    from goqueue.store.jobs_sync import JobStore
    from goqueue.tasks.app import GoQueue

R = TypeVar("R")

_DEDUPLICATED: Final = (EnqueueStatus.DUPLICATE, EnqueueStatus.REPLACED)


class JobPage(msgspec.Struct, frozen=True):
    """Jobs, newest first. ``next_page_token`` is empty on the last page; a page may be short and still have one."""

    jobs: list[Job[Any]]
    next_page_token: str


class Client(Life, Bulk, AsyncChanges, Waits):
    """A client of one store. Opens it at its first use; after `close` every call raises `ClientClosed`.

    ``app`` is only asked for the result types of jobs that are looked up by id; enqueueing needs none.
    Safe to share between all tasks of one event loop (`Client`) or all threads of a process (`Client`).
    """

    def __init__(
        self,
        app: GoQueue | None = None,
        *,
        connect: Callable[[], JobStore],
        transactions: Transactions | None = None,
        tenant: str = DEFAULT_TENANT,
        settings: ClientSettings | None = None,
    ) -> None:
        super().__init__(connect, settings or ClientSettings())
        self._app = app
        self._layers = around_enqueue(app.middleware) if app is not None else ()
        self._transactions = transactions
        self._tenant = tenant

    # -- enqueue ------------------------------------------------------------------------------------

    def enqueue(self, job: NewJob[R], *, conn: object = None) -> Job[R]:
        """Store a job and return its handle. When this returns the job is durable.

        With ``conn``, a connection of your own, the job is part of the transaction that it is in: it exists when you
        commit. Without, an answer that was lost is asked for again under the same id: never a second job.

        Raises `InvalidJob` for what cannot be stored, `UniqueConflict` if another job holds the key and the job says
        ``reject``, `IdConflict` if there is another job with the id you gave, `StoreUnavailable`.
        """
        self._refuse_closed()
        batch: Batch[R] = Batch(self._layers, self._tenant)
        batch.add((job,))
        try:
            stored = self._enqueue_batch(batch, conn)
        except BaseException as e:
            batch.fail(e)
            raise
        handle = batch.end(stored)[0]
        if isinstance(handle, Conflict):
            raise handle
        return handle

    def _enqueue_batch(self, batch: Batch[R], conn: object) -> list[Job[R] | Conflict]:
        self._refuse_closed()
        jobs, ready = batch.given, batch.ready
        if conn is None:
            # An id of the caller's may have been sent before, and be history already: look before storing it again.
            answers = self._send(ready, retry=any(job.id for job in jobs))
        else:
            answers = self._require_transactions().enqueue(conn, ready)
        batch.answers = answers
        handles = [self._handle(job, answer) for job, answer in zip(ready, answers, strict=True)]
        # An id of our own making cannot be that of another job; one of the caller's can.
        doubtful = [i for i, answer in enumerate(answers) if answer.status is EnqueueStatus.EXISTS and jobs[i].id]
        if doubtful:
            self._compare(ready, handles, doubtful, unseen_is_same=conn is not None)
        return handles

    def _send(self, jobs: Sequence[NewJob[object]], *, retry: bool) -> list[Enqueued]:
        """Enqueue, and ask again under the same ids when the answer was lost: the commit may have been made.

        A plain job by itself (no unique key, an id of our own) goes with those that are enqueued at the same time.
        """
        gathered = len(jobs) == 1 and not retry and jobs[0].unique is None
        sent = retry
        tries = 0
        while True:
            try:
                store = self._open()
                if gathered and not sent and self._gatherer is not None:
                    return [self._gatherer.submit(jobs[0])]
                return store.enqueue(jobs, retry=sent)
            except StoreUnavailable as e:
                sent = sent or not isinstance(e, NotSent)
                tries += 1
                if tries >= self._settings.enqueue_tries:
                    raise
            sleep(results.pause_s(self._settings, tries))

    def _compare(
        self,
        jobs: Sequence[NewJob[R]],
        handles: list[Job[R] | Conflict],
        positions: Sequence[int],
        *,
        unseen_is_same: bool,
    ) -> None:
        """Put a conflict in the place of jobs whose ids belong to others. The caller's own transaction is not seen."""
        store = self._open()
        records = store.get(self._tenant, [jobs[i].id for i in positions])
        for i, record in zip(positions, records, strict=True):
            same = unseen_is_same if record is None else results.same_job(jobs[i], record)
            if not same:
                handles[i] = IdConflict(f"there is, or was a moment ago, another job with the id {jobs[i].id}")

    def _handle(self, job: NewJob[R], answer: Enqueued) -> Job[R] | Conflict:
        if (conflict := conflict_of(answer)) is not None:
            return conflict
        return Job(
            self,
            answer.ref,
            returns=job.returns,
            deduplicated=answer.status in _DEDUPLICATED,
            created_at=answer.created_at,
            run_at=answer.run_at,
        )

    def _require_transactions(self) -> Transactions:
        if self._transactions is None:
            raise InvalidInput(
                "this client cannot enqueue on your connection: only PostgreSQL can, over a URL of its own", "/conn"
            )
        return self._transactions

    # -- find ---------------------------------------------------------------------------------------

    def get(self, id: str) -> Job[Any]:
        """Return the handle of a job by its id. Raises `JobNotFound`."""
        return self._found(self._record(check_id(id)))

    def find(
        self,
        *,
        ids: Sequence[str] = (),
        states: Sequence[JobState | str] = (),
        queues: Sequence[str] = (),
        kinds: Sequence[str] = (),
        tags: Sequence[str] = (),
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        finished_after: datetime | None = None,
        finished_before: datetime | None = None,
        page_size: int = limits.PAGE_SIZE_DEFAULT,
        page_token: str = "",
    ) -> JobPage:
        """Return one page of the jobs for which all conditions hold, newest first. ``tags``: jobs that have every one.

        Times are half-open, [after, before); with one of ``finished_after`` and ``finished_before`` only final jobs.
        Raises `InvalidQuery`.
        """
        asked = results.query(
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
            page_size=page_size,
            page_token=page_token,
        )
        store = self._open()
        page = store.find(asked)
        return JobPage([self._found(record) for record in page.jobs], page.next_before_id or "")

    def iterate(
        self,
        *,
        ids: Sequence[str] = (),
        states: Sequence[JobState | str] = (),
        queues: Sequence[str] = (),
        kinds: Sequence[str] = (),
        tags: Sequence[str] = (),
        reasons: Sequence[str] = (),
        errors: Sequence[str] = (),
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        finished_after: datetime | None = None,
        finished_before: datetime | None = None,
        page_token: str = "",
    ) -> Iterator[Job[Any]]:
        """Yield every job for which all conditions hold, newest first, page by page. Conditions as in `find`.

        ``reasons``: why it was cancelled or is dead. ``errors``: the type of its last error, with or without module.
        Both are looked at here, after the reading: use them together with other conditions. ``page_token``: start where
        a page, or a job (its id), ended.
        """
        many.check_names(reasons=reasons, errors=errors)
        wanted_reasons = frozenset(reasons)
        token = page_token
        while True:
            page = self.find(
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
                page_token=token,
            )
            for job in page.jobs:
                if job.known is not None and many.matches(job.known, wanted_reasons, errors):
                    yield job
            token = page.next_page_token
            if not token:
                return

    def counts(self, *, queues: Sequence[str] = (), states: Sequence[JobState] = ()) -> list[Count]:
        """Count the jobs that are not final per queue and state; exact up to 10,000, an estimate beyond."""
        store = self._open()
        return store.count(Filter(tenant=self._tenant, queues=tuple(queues), states=tuple(states)))

    # -- for handles --------------------------------------------------------------------------------

    def read(self, ref: JobRef) -> JobRecord:
        """Return all that is known of a job now. Raises `JobNotFound`."""
        return self._record(ref.id)

    def result_of(self, ref: JobRef, returns: object, timeout_s: float | None, allow_in_handler: bool) -> object:
        """Wait for a job's result: what ``job.result()`` does."""
        self._enter()
        results.check_wait(ref.id, timeout_s, allow_in_handler)
        record = self._waiter.wait(ref, timeout_s)
        if record is None:
            raise results.timed_out(ref.id, timeout_s)
        return results.result_from(record, returns)

    def _record(self, id: str) -> JobRecord:
        store = self._open()
        record = (store.get(self._tenant, [id]))[0]
        if record is None:
            raise results.not_found(id)
        return record

    def _found(self, record: JobRecord) -> Job[Any]:
        return Job(self, record.ref, returns=self._returns(record.kind), known=record)

    def _returns(self, kind: str) -> object:
        task = self._app.runs.get(kind) if self._app else None
        try:
            return task.returns if task else None
        except DefinitionError:
            return None  # who only looks at jobs need not be able to run them
