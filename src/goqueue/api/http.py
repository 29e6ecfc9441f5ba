"""The handlers: bytes to typed values, a use-case of the service, typed values to bytes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from goqueue.api import problem, wire
from goqueue.api.decoding import LOCATE_BYTES_MAX, decode, decode_list_query
from goqueue.api.problem import InternalError, InvalidIdempotencyKey
from goqueue.model.errors import GoQueueError, InvalidJob
from goqueue.model.query import Filter
from goqueue.service.idempotency import Answer, Idempotency, Produced
from goqueue.service.submit import Submission, Submitted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from goqueue.api.endpoint import Handler, Reply, Request
    from goqueue.model.job import NewJob
    from goqueue.service.health import Health
    from goqueue.service.jobs import Jobs
    from goqueue.service.submit import Submitter

    _Produce = Callable[[Sequence[str]], Awaitable[Produced]]

_log = logging.getLogger("goqueue.api")

_KEY_CHARS_MAX = 255
_REPLAYED = ((b"idempotency-replayed", b"true"),)
_DEFAULT_ERROR = InternalError("the server failed; its log says why")


class Handlers:
    """One method for each operation."""

    def __init__(
        self,
        *,
        submitter: Submitter,
        jobs: Jobs,
        idempotency: Idempotency,
        health: Health,
        document: bytes,
        batch_max: int,
    ) -> None:
        self._submitter = submitter
        self._jobs = jobs
        self._idempotency = idempotency
        self._health = health
        self._document = document
        self._batch_max = batch_max
        self._encode = msgspec.json.Encoder().encode
        self._new_job = msgspec.json.Decoder(wire.NewJobBody)
        self._new_jobs = msgspec.json.Decoder(wire.RawJobsBody)
        self._cancel = msgspec.json.Decoder(wire.CancelBody)
        self._retry = msgspec.json.Decoder(wire.RetryBody)

    def by_operation(self) -> dict[str, Handler]:
        """Return the handlers by name of operation."""
        return {
            "create_job": self.create_job,
            "create_jobs": self.create_jobs,
            "list_jobs": self.list_jobs,
            "get_job": self.get_job,
            "delete_job": self.delete_job,
            "cancel_job": self.cancel_job,
            "retry_job": self.retry_job,
            "livez": self.livez,
            "readyz": self.readyz,
            "openapi": self.openapi,
        }

    # -- submit -----------------------------------------------------------------------------------

    async def create_job(self, request: Request) -> Reply:
        """``POST /v1/jobs``."""
        key = _idempotency_key(request)
        body = decode(self._new_job, request.body)
        submission = Submission(_job(body))
        if key is None:
            submitted = await self._submitter.one(request.caller, submission)
            return 201 if submitted.created else 200, self._encode(submitted.job), ()
        self._submitter.check(request.caller, submission)

        async def produce(ids: Sequence[str]) -> Produced:
            again = Submission(body.to_job(ids[0]), again=body.id is None)
            try:
                submitted = await self._submitter.one(request.caller, again)
            except GoQueueError as e:
                if e.retryable or e.status >= 500:
                    raise
                # Decided, if not as wished: asked again, the answer is the same.
                status, problem_body, _ = problem.reply(e)
                return Produced(Answer(status, problem_body))
            return Produced(Answer(201 if submitted.created else 200, self._encode(submitted.job)))

        return await self._once(request, "create_job", key, 1, produce)

    async def create_jobs(self, request: Request) -> Reply:
        """``POST /v1/jobs/batch``."""
        key = _idempotency_key(request)
        items = decode(self._new_jobs, request.body).jobs
        if len(items) > self._batch_max:
            raise InvalidJob(f"may have at most {self._batch_max} items", "/jobs")
        bodies: list[wire.NewJobBody | GoQueueError] = []
        located_bytes = 0
        for raw in items:
            body = self._item(raw, locate=located_bytes <= LOCATE_BYTES_MAX)
            if isinstance(body, GoQueueError):
                located_bytes += memoryview(raw).nbytes
            bodies.append(body)

        async def produce(ids: Sequence[str]) -> Produced:
            submissions: list[Submission | GoQueueError] = [
                body
                if isinstance(body, GoQueueError)
                else Submission(body.to_job(job_id), again=bool(job_id) and body.id is None)
                for body, job_id in zip(bodies, ids, strict=True)
            ]
            answers = await self._submitter.many(request.caller, submissions)
            results = [_result(i, answer) for i, answer in enumerate(answers)]
            settled = not any(r.error is not None and (r.error.retryable or r.error.status >= 500) for r in results)
            return Produced(Answer(200, self._encode(wire.BatchResults(results))), settled)

        if key is None:
            answer = (await produce([""] * len(bodies))).answer
            return answer.status, answer.body, ()
        return await self._once(request, "create_jobs", key, len(bodies), produce)

    def _item(self, raw: msgspec.Raw, *, locate: bool) -> wire.NewJobBody | GoQueueError:
        try:
            body = decode(self._new_job, raw, locate=locate)
            _job(body)
        except GoQueueError as e:
            return e
        return body

    # -- look and change --------------------------------------------------------------------------

    async def list_jobs(self, request: Request) -> Reply:
        """``GET /v1/jobs``."""
        query = decode_list_query(request.query)
        where = Filter(
            states=query.state,
            queues=query.queue,
            kinds=query.kind,
            tags=query.tag,
            created_after=query.created_after,
            created_before=query.created_before,
            finished_after=query.finished_after,
            finished_before=query.finished_before,
        )
        page = await self._jobs.list(request.caller, where, page_size=query.page_size, page_token=query.page_token)
        return 200, self._encode(page), ()

    async def get_job(self, request: Request) -> Reply:
        """``GET /v1/jobs/{id}``."""
        return 200, self._encode(await self._jobs.get(request.caller, request.id)), ()

    async def delete_job(self, request: Request) -> Reply:
        """``DELETE /v1/jobs/{id}``."""
        await self._jobs.delete(request.caller, request.id)
        return 204, b"", ()

    async def cancel_job(self, request: Request) -> Reply:
        """``POST /v1/jobs/{id}/cancel``."""
        body = decode(self._cancel, request.body or b"{}")
        return 200, self._encode(await self._jobs.cancel(request.caller, request.id, reason=body.reason)), ()

    async def retry_job(self, request: Request) -> Reply:
        """``POST /v1/jobs/{id}/retry``."""
        body = decode(self._retry, request.body or b"{}")
        args = None if isinstance(body.args, msgspec.UnsetType) else bytes(body.args)
        return 200, self._encode(await self._jobs.retry(request.caller, request.id, args=args)), ()

    # -- the server itself ------------------------------------------------------------------------

    async def livez(self, _: Request) -> Reply:
        """``GET /livez``."""
        return 200, b'{"status":"ok"}', ()

    async def readyz(self, _: Request) -> Reply:
        """``GET /readyz``."""
        await self._health.check()
        return 200, b'{"status":"ready"}', ()

    async def openapi(self, _: Request) -> Reply:
        """``GET /openapi.json``."""
        return 200, self._document, ()

    async def _once(self, request: Request, route: str, key: str, jobs: int, produce: _Produce) -> Reply:
        scope = (request.caller.tenant, route)
        answer, replayed = await self._idempotency.once(scope, key, request.body, jobs, produce)
        headers: tuple[tuple[bytes, bytes], ...] = _REPLAYED if replayed else ()
        if answer.status >= 400:
            headers = ((b"content-type", problem.CONTENT_TYPE), *headers)
        return answer.status, answer.body, headers


def _job(body: wire.NewJobBody) -> NewJob[object]:
    """Return the job of a body that may not say "" where it means nothing at all."""
    if body.id == "":
        raise InvalidJob("must be a UUID of version 7; leave it out to get one", "/id")
    return body.to_job()


def _result(i: int, answer: Submitted | Exception) -> wire.BatchResult:
    if isinstance(answer, Submitted):
        return wire.BatchResult(job=answer.job)
    if isinstance(answer, GoQueueError):
        return wire.BatchResult(error=problem.problem(answer, f"/jobs/{i}"))
    _log.error("item %d of a batch failed", i, exc_info=answer)
    return wire.BatchResult(error=problem.problem(_DEFAULT_ERROR, f"/jobs/{i}"))


def _idempotency_key(request: Request) -> str | None:
    raw = request.headers.get(b"idempotency-key")
    if raw is None:
        return None
    if not 1 <= len(raw) <= _KEY_CHARS_MAX or not all(0x20 <= byte <= 0x7E for byte in raw) or not raw.strip():
        raise InvalidIdempotencyKey(f"must be 1 to {_KEY_CHARS_MAX} printable ASCII characters")
    return raw.decode("ascii")
