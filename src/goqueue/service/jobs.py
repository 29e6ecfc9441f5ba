"""Looking at jobs and changing them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, assert_never

import msgspec

from goqueue.model import limits
from goqueue.model.errors import Conflict, InvalidJob, InvalidQuery, JobNotFound, Unavailable, WrongState
from goqueue.model.job import JobRecord
from goqueue.model.query import CancelJobs, ChangeStatus, DeleteJobs, Filter, Query, RetryJobs, Selection
from goqueue.service import pages
from goqueue.service.access import Caller, Scope
from goqueue.tasks.codec import check_json
from goqueue.tasks.prepare import check_id, text

if TYPE_CHECKING:
    from goqueue.model.query import Change
    from goqueue.store.port import JobStore

FILTER_VALUES_MAX: Final = 100
"""Values of one field in a filter: any one of them matches (of tags, all must)."""
PAGE_BYTES_MAX: Final = 8 * 1024 * 1024
"""Of the jobs of one page as JSON. The first job is on it in any case."""
_CHUNK_JOBS: Final = 50
"""Jobs asked of the store at once: with the largest arguments these are 50 MiB, 500 would be 500."""
_BUSY_WAITS_S: Final = (0.02, 0.1, 0.3)
"""A row is locked for as long as a settle takes: worth a short wait before the caller hears of it."""


class JobsPage(msgspec.Struct, frozen=True):
    """Jobs, newest first. A page may be short and still have a next one; the last has an empty ``next_page_token``."""

    jobs: tuple[JobRecord, ...]
    next_page_token: str = ""


class Jobs:
    """Get, list, cancel, retry and delete jobs of the caller's tenant."""

    def __init__(self, store: JobStore) -> None:
        self._store = store

    async def get(self, caller: Caller, job_id: str) -> JobRecord:
        """Return a job, live or from history. Raises `JobNotFound`."""
        caller.require(Scope.READ)
        return await self._read(caller, _job_id(job_id))

    async def list(self, caller: Caller, where: Filter, *, page_size: int, page_token: str) -> JobsPage:
        """Return one page, short if its jobs are large. ``where.tenant`` is replaced by the caller's.

        Raises `InvalidQuery`.
        """
        caller.require(Scope.READ)
        where = _checked(msgspec.structs.replace(where, tenant=caller.tenant))
        if not 1 <= page_size <= limits.PAGE_SIZE_MAX:
            raise InvalidQuery(f"must be from 1 to {limits.PAGE_SIZE_MAX}", "/page_size")
        before_id = pages.before_id(where, page_token)
        jobs: list[JobRecord] = []
        room_bytes = PAGE_BYTES_MAX
        while True:
            wanted = min(page_size - len(jobs), _CHUNK_JOBS)
            page = await self._store.find(Query(filter=where, page_size=wanted, before_id=before_id))
            before_id = page.next_before_id
            for job in page.jobs:
                room_bytes -= len(_encode(job))
                if room_bytes < 0 and jobs:
                    return JobsPage(tuple(jobs), pages.page_token(where, jobs[-1].id))
                jobs.append(job)
            # A store that gives fewer than asked has looked at as much as it does for one page.
            if before_id is None or len(page.jobs) < wanted or len(jobs) >= page_size:
                return JobsPage(tuple(jobs), pages.page_token(where, before_id))

    async def cancel(self, caller: Caller, job_id: str, *, reason: str = "") -> JobRecord:
        """Cancel a waiting job, or ask a running one to stop; return it as it is then."""
        text(reason, "/reason", limits.REASON_CHARS_MAX)
        return await self._read(caller, await self._change(caller, job_id, CancelJobs(reason)))

    async def retry(self, caller: Caller, job_id: str, *, args: bytes | None = None) -> JobRecord:
        """Make a final job ready again, or a waiting one due now; return it as it is then.

        ``args`` (JSON) replaces the arguments of a final job; for one that is not final that is a `WrongState`.
        """
        if args is not None:
            check_json(args, "/args", limits.ARGS_BYTES_MAX, must_be_object=True)
        return await self._read(caller, await self._change(caller, job_id, RetryJobs(args)))

    async def delete(self, caller: Caller, job_id: str) -> None:
        """Remove a job that is not running."""
        await self._change(caller, job_id, DeleteJobs())

    async def _read(self, caller: Caller, job_id: str) -> JobRecord:
        record = (await self._store.get(caller.tenant, [job_id]))[0]
        if record is None:
            raise _not_found(job_id)
        return record

    async def _change(self, caller: Caller, job_id: str, change: Change) -> str:
        caller.require(Scope.ADMIN)
        job_id = _job_id(job_id)
        selection = Selection(caller.tenant, (job_id,))
        status = ChangeStatus.BUSY
        for wait_s in (*_BUSY_WAITS_S, 0.0):
            status = (await self._store.change(selection, change))[0].status
            if status is not ChangeStatus.BUSY:
                break
            await asyncio.sleep(wait_s)
        verb = type(change).__name__.removesuffix("Jobs").lower()
        match status:
            case ChangeStatus.CHANGED | ChangeStatus.REQUESTED | ChangeStatus.UNCHANGED:
                return job_id
            case ChangeStatus.NOT_FOUND:
                raise _not_found(job_id)
            case ChangeStatus.WRONG_STATE:
                raise WrongState(f"the job is in a state in which it is not possible to {verb} it")
            case ChangeStatus.KEY_HELD:
                raise Conflict("another job holds this job's unique key now: wait for it, cancel it or delete it")
            case ChangeStatus.BUSY:
                raise Unavailable("the job is locked by someone else at the moment; try again")
            case _:
                assert_never(status)


_encode = msgspec.json.Encoder().encode


def _not_found(job_id: str) -> JobNotFound:
    return JobNotFound(f"no job has the id {job_id}: it never existed, was deleted, or its retention has passed")


def _job_id(value: str) -> str:
    try:
        return check_id(value)
    except InvalidJob:
        # Whatever it is, no job has it. Cut: an id that is none can be of any length.
        raise _not_found(ascii(value[:64])) from None


def _checked(filter: Filter) -> Filter:
    """Refuse what no store could compare, and clamp instants to where jobs can be (which selects the same jobs)."""
    try:
        for name, values in (("queue", filter.queues), ("kind", filter.kinds), ("tag", filter.tags)):
            if len(values) > FILTER_VALUES_MAX:
                raise InvalidQuery(f"may be given at most {FILTER_VALUES_MAX} times", f"/{name}")
            for value in values:
                text(value, f"/{name}", limits.KIND_CHARS_MAX)
    except InvalidJob as e:
        raise InvalidQuery(e.detail, e.pointer) from None
    clamped = {}
    for field in ("created_after", "created_before", "finished_after", "finished_before"):
        instant = getattr(filter, field)
        if instant is not None:
            if instant.tzinfo is None:
                raise InvalidQuery("must have a time zone, such as 2026-01-31T12:00:00Z", f"/{field}")
            clamped[field] = min(max(instant, limits.INSTANT_MIN), limits.INSTANT_MAX)
    return msgspec.structs.replace(filter, **clamped)
