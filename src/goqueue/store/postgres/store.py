"""`PostgresStore`: the port on PostgreSQL. Verbs are plans; this class runs them and keeps what outlives one."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog

from goqueue.model.admin import Capabilities, Duty, SchemaStatus, Swept
from goqueue.model.errors import InvalidInput, KeyBusy, PermissionDenied, StoreUnavailable
from goqueue.model.lease import Signal
from goqueue.model.outcome import Answer
from goqueue.settings import StoreSettings
from goqueue.store.postgres import diagnosis, migrate, partitions
from goqueue.store.postgres._async.jobs import AsyncPostgresJobs
from goqueue.store.postgres.errors import DriverError, is_bad_row, is_missing_partition, translate
from goqueue.store.postgres.fetch import LaneFetch
from goqueue.store.postgres.signals import Listener
from goqueue.store.postgres.verbs import admin, enqueue, work
from goqueue.store.postgres.wakeups import cancels_topic, topic

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from goqueue.model.admin import Finding, Record, Term
    from goqueue.model.job import JobRef, NewJob
    from goqueue.model.lease import Beat, Beaten, Claimed, Want, WorkerRecord
    from goqueue.model.outcome import Settlement
    from goqueue.model.query import Change, Changed, Enqueued, Selection

T = TypeVar("T")
log = structlog.get_logger("goqueue.store")
_PARTITION_TRIES: Final = 3
_PAUSE_TRIES: Final = 10
ANYWHERE: Final = Signal("")


class PostgresStore(AsyncPostgresJobs):
    """A whole store on one PostgreSQL database (15 or newer). Opens lazily; `close` gives all connections back."""

    def __init__(self, url: str, *, settings: StoreSettings | None = None) -> None:
        super().__init__(url, settings=settings)
        self._listener: Listener | None = None
        self._fetch = LaneFetch(self._database, self._settings)
        self._partition_lock = asyncio.Lock()

    # -- life ------------------------------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:
        """What this store can promise."""
        return Capabilities(
            store="postgres",
            durable=True,
            transactional_enqueue=True,
            transactional_complete=True,
            shared=True,
            notifications=self._listener is not None and self._listener.pushes,
            time_travel=True,
        )

    async def close(self) -> None:
        """Stop listening and close all connections. Idempotent."""
        if self._listener is not None:
            await self._listener.close()
        await self._fetch.close()
        await super().close()

    async def open(self) -> None:
        """Connect, check the schema, and find out whether wake-ups arrive. Idempotent."""
        await super().open()
        await self.listen()

    async def listen(self) -> bool:
        """Start to listen for wake-ups; tell whether they arrive. Behind a transaction pooler they do not."""
        if self._listener is None:
            self._listener = Listener(self._database, self_test_s=self._settings.self_test_s)
        await self._listener.start()
        return self._listener.pushes

    def time_travel(self, seconds: float) -> None:
        """Move this store object's clock: its statements carry the shifted instant. For tests."""
        self._shift += timedelta(seconds=seconds)

    # -- workers ---------------------------------------------------------------------------------

    async def claim(self, want: Want, outcomes: Sequence[Settlement] = ()) -> Claimed:
        """Settle ``outcomes`` and claim; see `goqueue.store.port.WorkStore.claim`."""
        if _repeats(outcomes):
            settled = tuple(await self.settle(outcomes))
            return _with_answers(await self.claim(want), settled)
        try:
            return await self._fetch.claim(want, outcomes, self._now())
        except DriverError as e:
            if not outcomes or not (is_missing_partition(e) or is_bad_row(e)):
                raise translate(e) from e
        # An outcome is to blame: settle them apart, then claim.
        settled = tuple(await self.settle(outcomes))
        return _with_answers(await self.claim(want), settled)

    async def settle(self, outcomes: Sequence[Settlement]) -> list[Answer]:
        """Decide attempts; see `goqueue.store.port.WorkStore.settle`.

        With a retention of 0 nothing tells afterwards that a job has ended: the same outcome sent again answers
        ``lost``, not ``already``, and a blind retry of its enqueue makes it anew.
        """
        if not outcomes:
            return []
        if _repeats(outcomes):
            return await self._settle_in_turns(outcomes)
        for _ in range(_PARTITION_TRIES):
            try:
                return list((await self._fetch.settle(outcomes, self._now())).settled)
            except DriverError as e:
                if is_missing_partition(e):
                    if await self._make_partitions():
                        continue
                    if len(outcomes) > 1:
                        return await self._settle_row_by_row(outcomes, partitions_made=False)
                    break
                if not is_bad_row(e):
                    raise translate(e) from e
                if len(outcomes) > 1:
                    return await self._settle_row_by_row(outcomes)
                raise InvalidInput(f"the outcome of job {outcomes[0].ref.id} cannot be stored: {e}") from e
        raise StoreUnavailable("the history partition of today could not be made: another session holds a lock on it")

    async def _settle_row_by_row(self, outcomes: Sequence[Settlement], *, partitions_made: bool = True) -> list[Answer]:
        """Settle one by one, so that a bad one holds up none of the others. It answers busy: alone, it raises.

        So does one whose partition could not be made just now (not ``partitions_made``): it stays running, and is asked
        for again.
        """
        answers: list[Answer] = []
        for outcome in outcomes:
            try:
                if partitions_made:
                    answers += await self.settle([outcome])
                else:
                    answers += (await self._fetch.settle([outcome], self._now())).settled
            except InvalidInput:
                answers.append(Answer.BUSY)
            except DriverError as e:
                if not is_bad_row(e):
                    raise translate(e) from e
                answers.append(Answer.BUSY)
        return answers

    async def _settle_in_turns(self, outcomes: Sequence[Settlement]) -> list[Answer]:
        """Settle a batch that names a lease twice: the first decides, in a statement before the second's."""
        answers: dict[int, Answer] = {}
        rest = list(enumerate(outcomes))
        while rest:
            seen: set[str] = set()
            turn = [(i, o) for i, o in rest if o.ref.id not in seen and not seen.add(o.ref.id)]  # type: ignore[func-returns-value]  # set.add as "and note it"
            taken = {i for i, _ in turn}
            for (i, _), answer in zip(turn, await self.settle([o for _, o in turn]), strict=True):
                answers[i] = answer
            rest = [(i, o) for i, o in rest if i not in taken]
        return [answers[i] for i in range(len(outcomes))]

    async def extend(self, beat: Beat) -> Beaten:
        """Keep a worker alive; see `goqueue.store.port.WorkStore.extend`."""
        return await self._database.run(work.extend(beat, self._now()))

    async def _change(self, selection: Selection, change: Change) -> list[Changed]:
        return await self._upkeep(lambda: super(PostgresStore, self)._change(selection, change))

    async def enqueue_by(self, jobs: Sequence[NewJob[Any]], by: JobRef, fence: int) -> list[Enqueued]:
        """Enqueue under a lease; see `goqueue.store.port.WorkStore.enqueue_by`."""
        answers = await self._database.run(enqueue.enqueue_by(jobs, by, fence, self._now()), atomic=True)
        await self._wake_later(jobs)
        return answers

    async def signals(self, tenant: str, queues: Sequence[str]) -> AsyncIterator[Signal]:
        """Yield when queues have news, or running jobs shall stop; see `goqueue.store.port.WorkStore.signals`."""
        await self.listen()
        assert self._listener is not None
        signals = {topic(tenant, queue): Signal(queue) for queue in queues}
        signals[cancels_topic(tenant)] = Signal(cancels=True)
        async for name in self._listener.topics(list(signals)):
            signal = signals.get(name, ANYWHERE)
            if not signal.cancels:
                self._fetch.woken(signal.queue)
            yield signal

    # -- upkeep ----------------------------------------------------------------------------------

    async def sweep(self, duty: Duty, limit: int, term: Term | None = None) -> Swept:
        """Do a bounded piece of upkeep; see `goqueue.store.port.AdminStore.sweep`."""
        try:
            swept = await self._upkeep(lambda: self._sweep(duty, limit, term, None))
        except DriverError as e:
            if not is_bad_row(e):
                raise translate(e) from e
            swept = await self._sweep_one_by_one(duty, limit, term)
        if duty is Duty.HISTORY and not swept.deposed:
            return await self._history(swept, term)
        return swept

    async def _sweep(self, duty: Duty, limit: int, term: Term | None, only: str | None) -> Swept:
        plan = admin.sweep(duty, limit, self._settings, self._now(), term=term, only=only)
        return await self._database.run(plan, translated=False)

    async def _sweep_one_by_one(self, duty: Duty, limit: int, term: Term | None) -> Swept:
        """Sweep jobs one at a time: a bad row stays as it is, and holds up none of the others.

        So does one whose history partition cannot be made at present: a later sweep finds it again.
        """
        count = 0
        for id in await self._database.run(admin.candidates(duty, limit, self._now())):
            try:
                swept = await self._sweep(duty, 1, term, id)
            except DriverError as e:
                if is_missing_partition(e):
                    log.warning("sweep", job_id=id, error=str(e), hint="its history partition is missing: tried again")
                elif is_bad_row(e):
                    log.error("sweep", job_id=id, error=str(e), hint="this job cannot be swept: delete it by hand")
                else:
                    raise translate(e) from e
            else:
                count += swept.count
                if swept.deposed:
                    return Swept(count, deposed=True)
        return Swept(count)

    async def _history(self, swept: Swept, term: Term | None) -> Swept:
        count = swept.count
        async with self._partition_lock:
            connection = await self._database.connect()
            try:
                count += await partitions.ensure(connection, self._settings, self._now(), term)
                count += await partitions.drop_past(connection, self._settings, self._now(), term)
            except partitions.Deposed:
                return Swept(count, deposed=True)
            except DriverError as e:
                raise translate(e) from e
            finally:
                await connection.close()
        return Swept(count, swept.more)

    async def _upkeep(self, verb: Callable[[], Awaitable[T]]) -> T:
        """Run a verb that may move jobs to history, and make the partition that it misses.

        If that cannot be made, the verb's own error is raised: nothing was written, and it can be tried again.
        """
        try:
            return await verb()
        except (*DriverError, StoreUnavailable) as e:
            if not is_missing_partition(e.__cause__ if isinstance(e, StoreUnavailable) else e):
                raise
            if not await self._make_partitions():
                raise
        return await verb()

    async def _make_partitions(self) -> bool:
        """Make the partitions that are missing; tell whether that went well."""
        async with self._partition_lock:
            connection = None
            try:
                connection = await self._database.connect()
                await partitions.ensure(connection, self._settings, self._now())
            except (*DriverError, StoreUnavailable, PermissionDenied) as e:
                log.warning("history", error=str(e).strip(), hint="a partition could not be made: tried again")
                return False
            finally:
                if connection is not None:
                    await connection.close()
        return True

    async def elect(self, name: str, holder: str, ttl_s: float) -> Term | None:
        """Become or stay leader; see `goqueue.store.port.AdminStore.elect`."""
        return await self._database.run(admin.elect(name, holder, ttl_s, self._now()))

    async def read(self, name: str) -> Record | None:
        """Read a record."""
        return await self._database.run(admin.read(name, self._now()))

    async def write(self, name: str, value: bytes, version: int, ttl_s: float | None = None) -> Record | None:
        """Write a record if its version is still ``version``."""
        return await self._database.run(admin.write(name, value, version, ttl_s, self._now()))

    async def workers(self, tenant: str) -> list[WorkerRecord]:
        """List workers."""
        return await self._database.run(admin.workers(tenant, self._now()))

    async def pause(self, tenant: str, queue: str, paused: bool) -> None:
        """Pause or resume a queue: exact once answered."""
        for tries_left in reversed(range(_PAUSE_TRIES)):
            try:
                await self._database.run(admin.pause(tenant, queue, paused=paused, now=self._now()), atomic=True)
            except KeyBusy:
                if not tries_left:
                    raise
            else:
                return

    async def paused(self, tenant: str) -> list[str]:
        """Name the paused queues."""
        return await self._database.run(admin.paused(tenant))

    async def migrate(self) -> SchemaStatus:
        """Apply pending migrations and make the history partitions that are needed now."""
        connection = await self._database.connect()
        connection.deadline_s = 3600.0
        try:
            status = await migrate.apply(
                connection, self._database.connect, lock_timeout_s=self._settings.lock_timeout_s
            )
            await partitions.ensure(connection, self._settings, self._now())
        except DriverError as e:
            raise translate(e) from e
        finally:
            await connection.close()
        return status

    async def schema(self) -> SchemaStatus:
        """Tell which migrations the database has."""
        connection = await self._database.connect()
        try:
            return await migrate.status(connection)
        except DriverError as e:
            raise translate(e) from e
        finally:
            await connection.close()

    async def diagnose(self) -> list[Finding]:
        """Look for what will hurt, or hurts already, and say what to do."""
        return await diagnosis.diagnose(self._database, self._settings, self._now())


def _repeats(outcomes: Sequence[Settlement]) -> bool:
    return len(outcomes) > 1 and len({o.ref.id for o in outcomes}) < len(outcomes)


def _with_answers(claimed: Claimed, settled: tuple[Answer, ...]) -> Claimed:
    return type(claimed)(settled, claimed.leases)
