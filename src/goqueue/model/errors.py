"""Every error that a user can meet, as one tree.

    GoQueueError
    ├── ConfigurationError          NotConfigured · InvalidSetting · CannotStart · InvalidUrl
    │                               · LoginRefused · DatabaseMissing
    ├── InvalidInput                InvalidJob · InvalidArguments · InvalidQuery · IdempotencyMismatch
    ├── DefinitionError             DuplicateTask · UnknownTask · UnknownOption · MiddlewareError
    ├── NotFound                    JobNotFound
    ├── Conflict                    UniqueConflict · IdConflict · PartlyEnqueued · WrongState · SerializationConflict
    ├── AccessError                 Unauthenticated · PermissionDenied
    ├── Unavailable                 StoreUnavailable · KeyBusy
    ├── SchemaError                 SchemaMissing · SchemaOutdated · SchemaTooNew
    ├── LeaseLost
    ├── CompletionRolledBack
    ├── ClientError                 ClientClosed · WrongLoop
    └── ResultError                 JobFailed · JobCancelled · ResultTimeout · ResultGone · WouldDeadlock

Each class has a stable ``code`` (the same word in HTTP answers, logs and docs), says whether a blind retry can help
(``retryable``) and which HTTP status stands for it (``status``). Each message says what to do next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from goqueue.model.job import JobError


class GoQueueError(Exception):
    """Root of all errors raised by GoQueue."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False


# -- configuration and definitions ----------------------------------------------------------------


class ConfigurationError(GoQueueError):
    """The process is not set up so that it can work."""

    code = "configuration"


class NotConfigured(ConfigurationError):
    """No ``GOQUEUE_URL`` and no running ``goqueue dev`` of this project."""

    code = "not_configured"


class InvalidUrl(ConfigurationError):
    """The URL of the store cannot be read, or names a kind of store that there is not."""

    code = "invalid_url"


class LoginRefused(ConfigurationError):
    """PostgreSQL does not let this role in: its name, its password, or from here."""

    code = "login_refused"


class DatabaseMissing(ConfigurationError):
    """The server has no database of the name that the URL says."""

    code = "database_missing"


class InvalidSetting(ConfigurationError):
    """A setting is unknown, of the wrong type or out of its bounds."""

    code = "invalid_setting"


class CannotStart(ConfigurationError):
    """A worker process cannot start, however often it is tried: its application or its settings must be mended."""

    code = "cannot_start"


class DefinitionError(GoQueueError):
    """The application defines its tasks in a way that cannot work."""

    code = "definition"


class DuplicateTask(DefinitionError):
    """Two tasks of one application have the same kind."""

    code = "duplicate_task"


class UnknownOption(DefinitionError, TypeError):
    """``@app.task`` or ``.options`` was given an option that there is not."""

    code = "unknown_option"


class UnknownTask(DefinitionError):
    """No task of this kind is defined in the application."""

    code = "unknown_task"


class MiddlewareError(DefinitionError):
    """A middleware does not yield once, or not a job: its class must be mended."""

    code = "middleware"


# -- input ----------------------------------------------------------------------------------------


class InvalidInput(GoQueueError):
    """A value from the caller cannot be accepted. ``pointer`` is a JSON Pointer (RFC 6901) to it."""

    code = "invalid_input"
    status = 422

    def __init__(self, message: str, pointer: str = "") -> None:
        super().__init__(f"{pointer}: {message}" if pointer else message)
        self.detail = message
        self.pointer = pointer


class InvalidJob(InvalidInput):
    """A job has a field that cannot be stored faithfully."""

    code = "invalid_job"


class InvalidArguments(InvalidInput):
    """Arguments do not fit the task's signature, or cannot be encoded or decoded."""

    code = "invalid_arguments"


class InvalidQuery(InvalidInput):
    """A filter, page size or page token is not valid."""

    code = "invalid_query"


class IdempotencyMismatch(InvalidInput):
    """The ``Idempotency-Key`` was used before with another request."""

    code = "idempotency_mismatch"


# -- state ----------------------------------------------------------------------------------------


class NotFound(GoQueueError):
    """What was asked for does not exist."""

    code = "not_found"
    status = 404


class JobNotFound(NotFound):
    """No job has this id: it never existed, was deleted, or its retention has passed."""

    code = "job_not_found"


class Conflict(GoQueueError):
    """The present state of the store does not allow the request."""

    code = "conflict"
    status = 409


class UniqueConflict(Conflict):
    """Another job holds the unique key. ``holder_id`` names it."""

    code = "unique_conflict"

    def __init__(self, message: str, holder_id: str) -> None:
        super().__init__(message)
        self.holder_id = holder_id


class IdConflict(Conflict):
    """A different job with this id exists already."""

    code = "id_conflict"


class PartlyEnqueued(Conflict):
    """Some jobs of an ``enqueue_many`` met a conflict; the others are stored.

    ``ids`` has the ids of the jobs in their order, None where there was a conflict; ``conflicts`` has these by
    position.
    """

    code = "partly_enqueued"

    def __init__(self, message: str, ids: Sequence[str | None], conflicts: Mapping[int, Conflict]) -> None:
        super().__init__(message)
        self.ids = tuple(ids)
        self.conflicts = dict(conflicts)


class WrongState(Conflict):
    """The job is in a state in which this cannot be done."""

    code = "wrong_state"


class SerializationConflict(Conflict):
    """The caller's transaction must be run again (REPEATABLE READ or SERIALIZABLE met a concurrent key)."""

    code = "serialization_conflict"
    retryable = True


class AccessError(GoQueueError):
    """The caller may not do this."""

    code = "access"
    status = 403


class Unauthenticated(AccessError):
    """No API key, or one that is unknown, revoked or expired. (Keys come later: nothing raises it yet.)"""

    code = "unauthenticated"
    status = 401


class PermissionDenied(AccessError):
    """The API key lacks the scope for this operation."""

    code = "permission_denied"


class Unavailable(GoQueueError):
    """Cannot be answered now; the same request may succeed later."""

    code = "unavailable"
    status = 503
    retryable = True


class StoreUnavailable(Unavailable):
    """The store did not answer in time, or the connection to it broke."""

    code = "store_unavailable"


class NotSent(StoreUnavailable):
    """The same, and it is certain that nothing was stored: the store was not even asked."""


class KeyBusy(Unavailable):
    """An open transaction elsewhere holds the same unique key; wait for it and try again."""

    code = "key_busy"


class SchemaError(GoQueueError):
    """The store's schema does not fit this version of GoQueue."""

    code = "schema"
    status = 503


class SchemaMissing(SchemaError):
    """The store has no GoQueue schema yet: run ``goqueue db migrate``."""

    code = "schema_missing"


class SchemaOutdated(SchemaError):
    """The store's schema is older than this version needs: run ``goqueue db migrate``."""

    code = "schema_outdated"


class SchemaTooNew(SchemaError):
    """The store's schema is newer than this version knows: upgrade this process."""

    code = "schema_too_new"


class LeaseLost(GoQueueError):
    """This worker no longer owns the job: it was swept, cancelled or given to another."""

    code = "lease_lost"
    status = 409


class CompletionRolledBack(GoQueueError):
    """A handler has called ``ctx.complete_in`` and returned, but did not commit its transaction: a failed attempt."""

    code = "completion_rolled_back"


class ClientError(GoQueueError):
    """This client object cannot be used any more, or not here."""

    code = "client"


class ClientClosed(ClientError):
    """The client was closed before this call: make a new one."""

    code = "client_closed"


class WrongLoop(ClientError):
    """An `AsyncClient` belongs to the event loop that it was first used on, as long as that is open."""

    code = "wrong_loop"


# -- results --------------------------------------------------------------------------------------


class ResultError(GoQueueError):
    """``Job.result()`` has no value to return."""

    code = "result"


class JobFailed(ResultError):
    """The job is dead. ``errors`` has what its attempts raised, oldest first."""

    code = "job_failed"

    def __init__(self, message: str, errors: Sequence[JobError] = ()) -> None:
        super().__init__(message)
        self.errors = tuple(errors)


class JobCancelled(ResultError):
    """The job was cancelled."""

    code = "job_cancelled"


class ResultTimeout(ResultError, TimeoutError):
    """The job was not final within ``timeout_s``; it goes on by itself."""

    code = "result_timeout"


class ResultGone(ResultError):
    """The job has left the history (retention), or was deleted."""

    code = "result_gone"


class WouldDeadlock(ResultError):
    """A handler would wait for another job while it occupies a slot itself."""

    code = "would_deadlock"
