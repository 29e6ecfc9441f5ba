"""The client's part of the store: enqueue, find and change jobs, also inside a caller's own transaction."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from goqueue.model.errors import ConfigurationError, GoQueueError, InvalidInput, StoreUnavailable
from goqueue.model.query import Changed, ChangeStatus, Selection
from goqueue.settings import StoreSettings
from goqueue.store.postgres import migrate
from goqueue.store.postgres._async.callers import enqueue_in
from goqueue.store.postgres._async.database import AsyncDatabase
from goqueue.store.postgres.errors import is_missing_partition, is_statement_pooling
from goqueue.store.postgres.statement import Plan, Statement
from goqueue.store.postgres.timers import async_after
from goqueue.store.postgres.verbs import change as change_verb
from goqueue.store.postgres.verbs import enqueue as enqueue_verb
from goqueue.store.postgres.verbs import find as find_verb
from goqueue.store.postgres.wakeups import Wakeups, topic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from goqueue.model.job import JobRecord, JobRef, NewJob
    from goqueue.model.query import Change, Count, Enqueued, Filter, Page, Query
    from goqueue.store.postgres.connections import Connections

LEARN_AFTER: Final = 20
"""Enqueues of a client before it finds out whether it may prepare statements."""
LEARN_S: Final = 0.2


class AsyncPostgresJobs:
    """`AsyncJobStore` on PostgreSQL."""

    def __init__(self, url: str, *, settings: StoreSettings | None = None) -> None:
        self._settings = settings or StoreSettings()
        self._database = AsyncDatabase(url, self._settings)
        self._wakeups = Wakeups(self._settings.notify_window_s)
        self._shift = timedelta(0)
        self._enqueues = 0

    async def open(self) -> None:
        """Connect and check the schema: raises `SchemaMissing`, `SchemaOutdated` or `SchemaTooNew`. Idempotent.

        Raises `ConfigurationError` behind a pooler that knows no transactions.
        """
        await self._database.open()
        try:
            version, isolation = await self._database.run(_probe(), atomic=True)
        except StoreUnavailable as e:
            if is_statement_pooling(e.__cause__):
                raise ConfigurationError(str(e)) from e
            raise
        migrate.check(version)
        self._database.explicit = isolation != "read committed"

    async def close(self) -> None:
        """Close all connections. Idempotent."""
        wake, _ = self._wakeups.trailing(math.inf)
        if wake:
            with suppress(GoQueueError):  # polls make up for it
                await self._database.run(_notify(wake))
        await self._database.close()

    def abandon(self) -> None:
        """Close all connections at once: the loop that they were used on is closed."""
        self._database.abandon()

    @property
    def connections(self) -> Connections:
        """Count the connections of this store object, for metrics."""
        return self._database.connections

    async def ping(self) -> None:
        """Answer a trivial question within the deadline."""
        await self._database.run(_probe())

    async def enqueue(self, jobs: Sequence[NewJob[Any]], retry: bool = False) -> list[Enqueued]:
        """Store jobs; see `goqueue.store.jobs_async.AsyncJobStore.enqueue`."""
        if not jobs:
            return []
        await self._learn()
        places = enqueue_verb.sort(jobs)
        atomic = retry or places.statements > 1 or len(places.keyed) > 1
        plan = enqueue_verb.enqueue(jobs, retry=retry, now=self._now(), places=places, may_fail=not atomic)
        if atomic:
            answers = await self._database.run(plan, atomic=True)
            await self._wake_later(jobs)
            return answers
        began_s = time.monotonic()
        wake, later = self._wakeups.leading(_topics(jobs), began_s)
        answers = await self._database.run(_first_wakes(plan, wake))
        self._wakeups.carried(wake, began_s)
        self._note(later)
        return answers

    async def enqueue_in(self, conn: object, jobs: Sequence[NewJob[Any]]) -> list[Enqueued]:
        """Store jobs in the caller's open transaction on ``conn``. Idle workers are woken when it commits.

        Nothing of ours is left on the connection: no setting, no savepoint, no prepared statement.
        """
        return await enqueue_in(conn, jobs, self._now())

    async def change(self, selection: Selection, change: Change) -> list[Changed]:
        """Cancel, retry or delete; see `goqueue.store.jobs_async.AsyncJobStore.change`.

        A job that cannot be written as it is holds up none of the others: it is ``busy``. Alone, it raises.
        """
        if not selection.ids:
            return []
        try:
            return await self._change(selection, change)
        except (InvalidInput, StoreUnavailable) as e:
            if len(selection.ids) == 1 or not (isinstance(e, InvalidInput) or is_missing_partition(e.__cause__)):
                raise
            return await self._change_one_by_one(selection, change, e)

    async def _change(self, selection: Selection, change: Change) -> list[Changed]:
        return await self._database.run(change_verb.change(selection, change, self._settings, self._now()))

    async def _change_one_by_one(self, selection: Selection, change: Change, error: Exception) -> list[Changed]:
        answers: list[Changed] = []
        failed = 0
        for nth, id in enumerate(selection.ids):
            one = Selection(selection.tenant, (id,))
            plan = change_verb.change(one, change_verb.at(change, nth), self._settings, self._now())
            try:
                answers += await self._database.run(plan)
            except (InvalidInput, StoreUnavailable) as e:
                if not (isinstance(e, InvalidInput) or is_missing_partition(e.__cause__)):
                    raise
                failed += 1
                answers.append(Changed(id, ChangeStatus.BUSY))
        if failed == len(answers):
            raise error
        return answers

    async def find(self, query: Query) -> Page:
        """Return one page, newest first."""
        return await self._database.run(find_verb.find(query, self._now()), snapshot=True)

    async def count(self, filter: Filter) -> list[Count]:
        """Count jobs that are not final."""
        return await self._database.run(find_verb.count(filter, self._now()))

    async def history(self, refs: Sequence[JobRef]) -> list[JobRecord | None]:
        """Return final jobs by ref."""
        return await self._database.run(find_verb.history(refs, self._now())) if refs else []

    async def get(self, tenant: str, ids: Sequence[str]) -> list[JobRecord | None]:
        """Return jobs by id."""
        return await self._database.run(find_verb.get(tenant, ids, self._now())) if ids else []

    def _now(self) -> datetime | None:
        """Return None, which means the server's clock, unless a test has moved this store's."""
        return datetime.now(UTC) + self._shift if self._shift else None

    async def _learn(self) -> None:
        """Find out, once it pays, whether statements can be prepared: a short script never asks."""
        self._enqueues += 1
        if self._enqueues == LEARN_AFTER and not self._database.prepare:
            await self._database.learn(min(self._settings.self_test_s, LEARN_S))

    async def _wake_later(self, jobs: Sequence[NewJob[Any]]) -> None:
        """Send wake-ups after a commit that could not carry them. The jobs are stored, whatever becomes of these."""
        began_s = time.monotonic()
        wake, later = self._wakeups.leading(_topics(jobs), began_s)
        self._note(later)
        if wake:
            try:
                await self._database.run(_notify(wake))
            except GoQueueError:
                self._note(wake)
            else:
                self._wakeups.carried(wake, began_s)

    def _note(self, topics: Sequence[str]) -> None:
        """Have wake-ups sent when their window ends. Only after the commit: one sent before it would find nothing."""
        ask_in_s = self._wakeups.note(topics)
        if ask_in_s is not None:
            async_after(ask_in_s, self._flush)

    async def _flush(self) -> None:
        """Send the wake-ups that have waited for their window's end and that no enqueue has carried since."""
        wake, ask_in_s = self._wakeups.trailing()
        if ask_in_s is not None:
            async_after(ask_in_s, self._flush)
        if wake:
            await self._database.run(_notify(wake))


def _topics(jobs: Sequence[NewJob[Any]]) -> list[str]:
    """Topics to wake: none for a job that is only due later, which a poll finds in time."""
    return sorted({topic(job.tenant, job.queue) for job in jobs if not job.delay_s and job.run_at is None})


def _first_wakes(plan: Plan[list[Enqueued]], wake: tuple[str, ...]) -> Plan[list[Enqueued]]:
    """Let the first statement of a plan carry wake-ups, or the one that comes for it if it fails."""
    try:
        statement = enqueue_verb.waking(next(plan), wake)
        while True:
            try:
                rows = yield statement
            except BaseException as e:
                statement = enqueue_verb.waking(plan.throw(e), wake)
            else:
                statement = plan.send(rows)
    except StopIteration as stop:
        answer: list[Enqueued] = stop.value
        return answer


def _notify(topics: tuple[str, ...]) -> Plan[None]:
    for name in topics:
        yield Statement("notify", (name,), indexed=False)


def _probe() -> Plan[tuple[int, str]]:
    rows = yield Statement("probe", indexed=False)
    return rows[0][0], rows[0][1]
