"""The one table of what the server can do. Routes and the OpenAPI document are both made from it."""

from __future__ import annotations

from typing import Final

import msgspec

from goqueue.api import wire
from goqueue.api.problem import BodyTooLarge, InvalidIdempotencyKey, MalformedJson, RequestTimeout, UnsupportedMediaType
from goqueue.model.errors import (
    Conflict,
    GoQueueError,
    IdConflict,
    IdempotencyMismatch,
    InvalidJob,
    InvalidQuery,
    JobNotFound,
    KeyBusy,
    PermissionDenied,
    SchemaMissing,
    SchemaOutdated,
    SchemaTooNew,
    SerializationConflict,
    StoreUnavailable,
    Unavailable,
    UniqueConflict,
    WrongState,
)
from goqueue.service.access import Scope
from goqueue.service.jobs import JobsPage


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that the server can do."""

    name: str
    method: str
    path: str
    summary: str
    answers: dict[int, type | None]
    """Type of the body by status; None for no body (204) or one without a schema."""
    scope: Scope | None = None
    """What the caller's key must be good for; None: no key is needed."""
    request: type | None = None
    body_required: bool = True
    query: type | None = None
    errors: tuple[type[GoQueueError], ...] = ()
    idempotent: bool = False
    """Takes an Idempotency-Key header."""


_BODY_ERRORS: Final = (MalformedJson, RequestTimeout, BodyTooLarge, UnsupportedMediaType, InvalidJob)
_STORE_ERRORS: Final = (StoreUnavailable, SchemaMissing, SchemaOutdated, SchemaTooNew)
_WRITE_ERRORS: Final = (PermissionDenied, SerializationConflict, Unavailable, *_STORE_ERRORS)
_SUBMIT_ERRORS: Final = (*_BODY_ERRORS, InvalidIdempotencyKey, IdempotencyMismatch, *_WRITE_ERRORS)
_CHANGE_ERRORS: Final = (JobNotFound, WrongState, *_WRITE_ERRORS)

OPERATIONS: Final = (
    Operation(
        name="create_job",
        method="POST",
        path="/v1/jobs",
        summary="Submit one job",
        scope=Scope.ENQUEUE,
        request=wire.NewJobBody,
        answers={201: wire.SubmittedJob, 200: wire.SubmittedJob},
        errors=(*_SUBMIT_ERRORS, UniqueConflict, IdConflict, KeyBusy),
        idempotent=True,
    ),
    Operation(
        name="create_jobs",
        method="POST",
        path="/v1/jobs/batch",
        summary="Submit many jobs; each is answered by itself, in order",
        scope=Scope.ENQUEUE,
        request=wire.NewJobsBody,
        answers={200: wire.BatchResults},
        errors=_SUBMIT_ERRORS,
        idempotent=True,
    ),
    Operation(
        name="list_jobs",
        method="GET",
        path="/v1/jobs",
        summary="List jobs, newest first",
        scope=Scope.READ,
        query=wire.ListJobsQuery,
        answers={200: JobsPage},
        errors=(InvalidQuery, PermissionDenied, *_STORE_ERRORS),
    ),
    Operation(
        name="get_job",
        method="GET",
        path="/v1/jobs/{id}",
        summary="Get one job",
        scope=Scope.READ,
        answers={200: wire.JobRecord},
        errors=(PermissionDenied, JobNotFound, *_STORE_ERRORS),
    ),
    Operation(
        name="delete_job",
        method="DELETE",
        path="/v1/jobs/{id}",
        summary="Delete a job that is not running",
        scope=Scope.ADMIN,
        answers={204: None},
        errors=_CHANGE_ERRORS,
    ),
    Operation(
        name="cancel_job",
        method="POST",
        path="/v1/jobs/{id}/cancel",
        summary="Cancel a waiting job, or ask a running one to stop",
        scope=Scope.ADMIN,
        request=wire.CancelBody,
        body_required=False,
        answers={200: wire.JobRecord},
        errors=(*_BODY_ERRORS, *_CHANGE_ERRORS),
    ),
    Operation(
        name="retry_job",
        method="POST",
        path="/v1/jobs/{id}/retry",
        summary="Make a final job ready again, or a waiting one due now",
        scope=Scope.ADMIN,
        request=wire.RetryBody,
        body_required=False,
        answers={200: wire.JobRecord},
        errors=(*_BODY_ERRORS, Conflict, *_CHANGE_ERRORS),
    ),
    Operation(
        name="livez",
        method="GET",
        path="/livez",
        summary="The process answers",
        answers={200: wire.Status},
    ),
    Operation(
        name="readyz",
        method="GET",
        path="/readyz",
        summary="The store answered recently",
        answers={200: wire.Status},
        errors=_STORE_ERRORS,
    ),
    Operation(
        name="openapi",
        method="GET",
        path="/openapi.json",
        summary="This document",
        answers={200: None},
    ),
)
