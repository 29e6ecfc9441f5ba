"""The nouns of a job: what is asked for (`NewJob`), what names it (`JobRef`), what is known of it (`JobRecord`)."""

from __future__ import annotations

from datetime import datetime
from difflib import get_close_matches
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Generic, Literal, Never, TypeAlias, TypeVar

import msgspec

from goqueue.model import limits
from goqueue.model.errors import InvalidJob, UnknownOption
from goqueue.model.retry import RetryDelays
from goqueue.model.state import JobState

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]

R = TypeVar("R", covariant=True)

VERSION_KEY = "goqueue.version"
"""In a job's meta: the version of its arguments. Without it they are of version 1."""
DEFAULT_QUEUE = "default"
DEFAULT_TENANT = "default"


class JobRef(msgspec.Struct, frozen=True, order=True, gc=False):
    """How a store finds a job. ``id`` alone resolves through a look-up; the queue makes it one step (and one shard)."""

    tenant: str
    queue: str
    id: str


class ErrorInfo(msgspec.Struct, frozen=True):
    """What an attempt raised, cut to its bounds."""

    type: str
    message: str
    traceback: str = ""


class JobError(msgspec.Struct, frozen=True):
    """One failed attempt, as kept with the job."""

    attempt: int
    at: datetime
    type: str
    message: str
    traceback: str = ""


class JobLog(msgspec.Struct, frozen=True):
    """One line that a handler has logged, as kept with the job. ``at`` is the store's instant."""

    attempt: int
    at: datetime
    level: LogLevel
    message: str


class OnConflict(StrEnum):
    """What an enqueue does when another job holds the unique key."""

    RETURN = "return"
    """Answer with the holder (default)."""
    REJECT = "reject"
    """Raise `UniqueConflict`, which names the holder."""
    REPLACE = "replace"
    """Give a holder that has not started the new arguments, options and run_at; else as `RETURN`.

    With a delay this is a debounce: each enqueue moves run_at on. `Unique.keep_run_at` leaves run_at where it is."""


class Unique(msgspec.Struct, frozen=True, kw_only=True):
    """At most one job per key in (tenant, queue) while the holder is in a holding state.

    The holding states are scheduled, ready, running, retrying and blocked, and those in ``final_states``. With
    ``window_s`` a key that a final state holds is free again that many seconds after the job became final; without it,
    such a key is held until the job is deleted. Without ``key`` the key is the kind and the canonical JSON of the
    arguments.

    With ``until_started`` the key is free as soon as a worker has claimed the job (so an enqueue while it runs makes
    another job), and is not taken again when the job is retried. It goes with no ``final_states``.
    """

    key: str | None = None
    on_conflict: OnConflict = OnConflict.RETURN
    final_states: tuple[JobState, ...] = ()
    window_s: float | None = None
    until_started: bool = False
    keep_run_at: bool = False
    """With ``on_conflict="replace"``: the holder keeps its run_at."""
    digest: bytes = b""
    """SHA-256 of the key; filled by `goqueue.tasks.prepare`, 32 bytes when it reaches a store."""


class NewJob(msgspec.Struct, Generic[R], frozen=True, kw_only=True, gc=False):
    """A job that somebody wants done. Immutable; `options` makes a changed copy. Storing it is the client's work.

    ``R`` is the type that the job's result decodes to. ``args`` is a JSON object, encoded.
    Exactly one of ``run_at`` (an aware instant) and ``delay_s`` (seconds from the store's now) may be given.
    """

    kind: str
    args: bytes = b"{}"
    queue: str = DEFAULT_QUEUE
    """At most 128 characters."""
    priority: int = limits.PRIORITY_DEFAULT
    """0 is claimed first, 9 last."""
    id: str = ""
    """UUIDv7; made by `goqueue.tasks.prepare` when empty."""
    tenant: str = DEFAULT_TENANT
    group_key: str = ""
    run_at: datetime | None = None
    """Not before this instant, which has a time zone."""
    delay_s: float | None = None
    """Not before so many seconds after the enqueue."""
    max_attempts: int = limits.MAX_ATTEMPTS_DEFAULT
    """After so many attempts it is dead. An attempt whose process died is one."""
    max_crashes: int = limits.MAX_CRASHES_DEFAULT
    """With so many deaths of its process it is dead."""
    timeout_s: float | None = None
    """How long one attempt may run; None: as its task says where it runs."""
    schedule_to_start_s: float | None = None
    """How long the job may be due (from ``run_at``, of each attempt) before a worker starts it; then it is dead."""
    deadline_s: float | None = None
    """How long the job may take from its enqueue to its end, all attempts and waits included; then it is dead."""
    retry: RetryDelays | None = None
    """When this job is tried again; None: as its task says."""
    unique: Unique | None = None
    tags: tuple[str, ...] = ()
    meta: dict[str, str] = {}
    returns: object = None
    """The type of the result for decoding it; never stored."""

    def options(
        self,
        *,
        delay_s: float | msgspec.UnsetType | None = msgspec.UNSET,
        run_at: datetime | msgspec.UnsetType | None = msgspec.UNSET,
        priority: int | msgspec.UnsetType = msgspec.UNSET,
        queue: str | msgspec.UnsetType = msgspec.UNSET,
        unique: Unique | bool | str | msgspec.UnsetType | None = msgspec.UNSET,
        tags: tuple[str, ...] | list[str] | msgspec.UnsetType = msgspec.UNSET,
        meta: dict[str, str] | msgspec.UnsetType = msgspec.UNSET,
        timeout_s: float | msgspec.UnsetType | None = msgspec.UNSET,
        schedule_to_start_s: float | msgspec.UnsetType | None = msgspec.UNSET,
        deadline_s: float | msgspec.UnsetType | None = msgspec.UNSET,
        retry: RetryDelays | msgspec.UnsetType | None = msgspec.UNSET,
        max_attempts: int | msgspec.UnsetType = msgspec.UNSET,
        id: str | msgspec.UnsetType = msgspec.UNSET,
        **unknown: Never,
    ) -> NewJob[R]:
        """Return a copy with these options; what is not named stays as it is. Raises `UnknownOption`.

        ``unique`` may be a `Unique`, a key, ``True`` (by kind and arguments), or ``None``/``False`` (not unique).
        ``meta`` replaces what is there, except the version of the arguments, which is the task's.
        Giving ``delay_s`` clears ``run_at`` and the other way round; giving both raises `InvalidJob`.
        """
        if unknown:
            raise unknown_option(".options", unknown, type(self).options.__kwdefaults__ or {})
        changed: dict[str, object] = {
            name: value
            for name, value in (
                ("delay_s", delay_s),
                ("run_at", run_at),
                ("priority", priority),
                ("queue", queue),
                ("meta", meta),
                ("timeout_s", timeout_s),
                ("schedule_to_start_s", schedule_to_start_s),
                ("deadline_s", deadline_s),
                ("retry", retry),
                ("max_attempts", max_attempts),
                ("id", id),
            )
            if value is not msgspec.UNSET
        }
        if changed.get("delay_s") is not None and changed.get("run_at") is not None:
            raise InvalidJob("give run_at or delay_s, not both", "/run_at")
        if changed.get("delay_s") is not None:
            changed["run_at"] = None
        elif changed.get("run_at") is not None:
            changed["delay_s"] = None
        if not isinstance(meta, msgspec.UnsetType) and VERSION_KEY in self.meta:
            changed["meta"] = {**meta, VERSION_KEY: self.meta[VERSION_KEY]}
        if not isinstance(tags, msgspec.UnsetType):
            changed["tags"] = tuple(tags)
        if isinstance(unique, str):
            changed["unique"] = Unique(key=unique)
        elif isinstance(unique, bool):
            changed["unique"] = Unique() if unique else None
        elif not isinstance(unique, msgspec.UnsetType):
            changed["unique"] = unique
        return msgspec.structs.replace(self, **changed)

    @property
    def ref(self) -> JobRef:
        """How a store refers to this job once it has an id."""
        return JobRef(self.tenant, self.queue, self.id)


class JobRecord(msgspec.Struct, frozen=True, kw_only=True):
    """All that users see of a job, in every language. Instants are the store's, in UTC."""

    id: str
    kind: str
    args: msgspec.Raw
    """A JSON object, as bytes: ``json.loads(bytes(record.args))``."""
    queue: str
    priority: int
    state: JobState
    attempt: int
    """How many attempts were spent: claims without those that were handed back or snoozed."""
    max_attempts: int
    crashes: int
    """How many times the process died in which it ran."""
    max_crashes: int
    run_at: datetime
    """When its next attempt is due, or its last one was."""
    created_at: datetime
    attempted_at: datetime | None = None
    """When its last attempt was claimed."""
    finished_at: datetime | None = None
    timeout_s: float | None = None
    schedule_to_start_s: float | None = None
    deadline_at: datetime | None = None
    """When it is dead if it is not final by then."""
    retry: RetryDelays | None = None
    tags: tuple[str, ...] = ()
    meta: dict[str, str] = {}
    unique_key: str | None = None
    result: msgspec.Raw | None = None
    """JSON, as bytes; None for a handler that returned nothing. ``Job.result`` decodes it to its type."""
    errors: tuple[JobError, ...] = ()
    """What its attempts have raised, oldest first; at most 20 are kept."""
    reason: str | None = None
    """Why it was cancelled or is dead (``attempts``, ``not_retryable``, ``retry_for``, ``deadline``, ``expired``,
    ``crashed``, or the handler's own words); of a waiting job that was put off, why."""
    progress: msgspec.Raw | None = None
    logs: tuple[JobLog, ...] = ()
    """What its handlers have logged, oldest first: the newest `limits.LOGS_KEPT_MAX`."""
    cancel_requested_at: datetime | None = None
    worker_id: str | None = None
    tenant: str = DEFAULT_TENANT

    @property
    def ref(self) -> JobRef:
        """How a store refers to this job."""
        return JobRef(self.tenant, self.queue, self.id)


_CALLED_ELSEWHERE: Final = {
    "args": "task.job(...)",
    "attempts": "max_attempts",
    "countdown": "delay_s",
    "delay": "delay_s",
    "eta": "run_at",
    "expires": "deadline_s",
    "max_retries": "max_attempts",
    "name": "kind",
    "retries": "max_attempts",
    "time_limit": "timeout_s",
    "timeout": "timeout_s",
}
"""Options by their names in other systems."""


def unknown_option(where: str, given: Mapping[str, object], known: Collection[str]) -> UnknownOption:
    """Return the error for options that there are not: it names what was probably meant, or all that there are."""
    name = min(given)
    near = [_CALLED_ELSEWHERE[name]] if name in _CALLED_ELSEWHERE else get_close_matches(name, known, n=1)
    hint = f"do you mean {near[0]}?" if near else f"there are: {', '.join(sorted(known))}"
    return UnknownOption(f"{where} has no option {name!r}: {hint}")
