"""Make a `NewJob` ready for a store: check every field, give it an id, compute its unique key's digest.

Predictable bad input is refused here, in the caller's process, before it can reach a store: a transaction of the
caller is never aborted by us, and no batch is stored in half.
"""

from __future__ import annotations

import hashlib
import math
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

import msgspec

from goqueue.model import limits
from goqueue.model.errors import InvalidJob
from goqueue.model.job import VERSION_KEY, NewJob, OnConflict
from goqueue.model.retry import RetryDelays
from goqueue.model.state import FINAL_STATES
from goqueue.tasks.codec import CheckedArgs, canonical, check_json
from goqueue.tasks.retry import RETRY_AFTER_MAX_S, RetryPolicy, numbers_of, problem_of
from goqueue.tasks.versions import check_meta

if TYPE_CHECKING:
    from collections.abc import Callable

    from goqueue.model.job import Unique

if sys.version_info >= (3, 14):
    from uuid import uuid7
else:
    from uuid_utils import uuid7  # not its `compat`: a UUID of the standard library takes longer to make and to write

R = TypeVar("R")


def new_id() -> str:
    """Return a new job id: a UUIDv7 as text, which sorts by time of creation within this process."""
    return str(_uuid7())


_uuid7: Callable[[], object] = uuid7


def prepare(job: NewJob[R], tenant: str | None = None) -> NewJob[R]:
    """Return ``job`` as a store takes it. Raises `InvalidJob` with a JSON pointer to the field that cannot be stored.

    ``tenant`` replaces the job's own, for callers that act for one tenant.
    """
    if not isinstance(job, NewJob):
        raise InvalidJob(f"must be a NewJob, which task.job(...) makes, is a {type(job).__name__}")
    if tenant is not None and tenant != job.tenant:
        job = msgspec.structs.replace(job, tenant=tenant)
    _name(job.kind, "/kind", limits.KIND_CHARS_MAX)
    _name(job.queue, "/queue", limits.NAME_CHARS_MAX)
    _name(job.tenant, "/tenant", limits.NAME_CHARS_MAX)
    if job.group_key:
        text(job.group_key, "/group_key", limits.GROUP_KEY_CHARS_MAX)
    _integer(job.priority, "/priority", limits.PRIORITY_MIN, limits.PRIORITY_MAX)
    _integer(job.max_attempts, "/max_attempts", 1, limits.MAX_ATTEMPTS_MAX)
    _integer(job.max_crashes, "/max_crashes", 1, limits.MAX_CRASHES_MAX)
    if job.timeout_s is not None:
        _number(job.timeout_s, "/timeout_s", limits.TIMEOUT_S_MIN, limits.TIMEOUT_S_MAX)
    _time(job)
    if job.schedule_to_start_s is not None:
        _number(job.schedule_to_start_s, "/schedule_to_start_s", limits.DEADLINE_S_MIN, limits.DEADLINE_S_MAX)
    if job.deadline_s is not None:
        _number(job.deadline_s, "/deadline_s", limits.DEADLINE_S_MIN, limits.DEADLINE_S_MAX)
        if job.delay_s is not None and job.delay_s >= job.deadline_s:
            raise InvalidJob(f"must be longer than the delay of {job.delay_s:g} s before it starts", "/deadline_s")
    changed: dict[str, object] = {}
    if type(job.args) is CheckedArgs:
        changed["args"] = bytes(job.args)  # the mark ends here: whoever takes jobs further knows bytes only
    else:
        check_json(job.args, "/args", limits.ARGS_BYTES_MAX, must_be_object=True)
    if job.tags:
        _tags(job.tags)
    if job.meta:
        _meta(job.meta)
    if job.retry is not None:
        changed["retry"] = _retry(job.retry)
    if job.unique is not None:
        _unique(job.unique)
        changed["unique"] = msgspec.structs.replace(job.unique, digest=unique_digest(job))
    changed["id"] = check_id(job.id) if job.id else new_id()
    return msgspec.structs.replace(job, **changed)


def check_id(value: str, pointer: str = "/id") -> str:
    """Return the canonical text of a UUIDv7, or raise `InvalidJob`."""
    from uuid import UUID  # rarely needed

    try:
        parsed = UUID(value)
    except (ValueError, AttributeError, TypeError):
        raise InvalidJob("must be a UUID of version 7, such as a client makes", pointer) from None
    if parsed.version != 7 or len(value) != 36:
        raise InvalidJob("must be a UUID of version 7 in its hyphenated form", pointer)
    return str(parsed)


def unique_digest(job: NewJob[R]) -> bytes:
    """Return the SHA-256 (32 bytes) of the job's unique key: its explicit key, else kind and canonical arguments."""
    if job.unique is None:
        raise InvalidJob("has no unique key", "/unique")
    if job.unique.key is not None:
        source = b"key\0" + job.unique.key.encode()
    else:
        source = b"args\0" + job.kind.encode() + b"\0" + canonical(job.args)
    return hashlib.sha256(source).digest()


def text(value: str, pointer: str, chars_max: int) -> None:
    """Check text that a store keeps as text: no NUL, no lone surrogate, not too long."""
    if not isinstance(value, str):
        raise InvalidJob("must be text", pointer)
    if len(value) > chars_max:
        raise InvalidJob(f"must have at most {chars_max} characters, has {len(value)}", pointer)
    if "\0" in value:
        raise InvalidJob("must not contain NUL (U+0000)", pointer)
    if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
        raise InvalidJob("must not contain lone surrogates", pointer)


@lru_cache(maxsize=4096)  # a program has few queues and kinds, and asks for each job
def _name(value: str, pointer: str, chars_max: int) -> None:
    text(value, pointer, chars_max)
    if not value:
        raise InvalidJob("must not be empty", pointer)
    if value != value.strip() or not value.isprintable():
        raise InvalidJob("must be printable, without white space at its ends", pointer)


def _integer(value: int, pointer: str, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise InvalidJob(f"must be a whole number from {low} to {high}", pointer)


def _number(value: object, pointer: str, low: float, high: float) -> None:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or not low <= value <= high
    ):
        raise InvalidJob(f"must be a number from {low:g} to {high:g}", pointer)


def _time(job: NewJob[R]) -> None:
    if job.delay_s is not None:
        if job.run_at is not None:
            raise InvalidJob("give run_at or delay_s, not both", "/run_at")
        _number(job.delay_s, "/delay_s", 0.0, limits.DELAY_S_MAX)
    elif job.run_at is not None:
        if job.run_at.tzinfo is None:
            raise InvalidJob("must have a time zone (for example datetime.now(UTC) + ...)", "/run_at")
        if not limits.INSTANT_MIN <= job.run_at <= limits.INSTANT_MAX:
            raise InvalidJob(f"must be between {limits.INSTANT_MIN:%Y} and {limits.INSTANT_MAX:%Y}", "/run_at")


def _retry(delays: RetryDelays) -> RetryDelays:
    """Only numbers travel with a job: classes of exceptions are known where its task is."""
    if isinstance(delays, RetryPolicy):
        if delays.has_rules or delays.retry_after_max_s != RETRY_AFTER_MAX_S:
            raise InvalidJob(
                "takes only numbers: put what it says about exceptions (on, no_retry_on, retry_after_max_s) on the"
                " task, @app.task(retry=...), where it stays in force",
                "/retry",
            )
    elif not isinstance(delays, RetryDelays):
        raise InvalidJob("must be a RetryPolicy", "/retry")
    if (problem := problem_of(delays)) is not None:
        raise InvalidJob(problem[1], f"/retry/{problem[0]}")
    return numbers_of(delays)


def _tags(tags: tuple[str, ...]) -> None:
    if len(tags) > limits.TAGS_MAX:
        raise InvalidJob(f"must have at most {limits.TAGS_MAX} tags", "/tags")
    for i, tag in enumerate(tags):
        _name(tag, f"/tags/{i}", limits.TAG_CHARS_MAX)


def _meta(meta: dict[str, str]) -> None:
    if len(meta) > limits.META_KEYS_MAX:
        raise InvalidJob(f"must have at most {limits.META_KEYS_MAX} keys", "/meta")
    for key, value in meta.items():
        pointer = "/meta/" + str(key).replace("~", "~0").replace("/", "~1")
        text(key, pointer, limits.META_KEY_CHARS_MAX)
        text(value, pointer, limits.META_VALUE_CHARS_MAX)
        if key == VERSION_KEY:
            check_meta(value, pointer)


def _unique(unique: Unique) -> None:
    if unique.key is not None:
        text(unique.key, "/unique/key", limits.UNIQUE_KEY_CHARS_MAX)
        if not unique.key:
            raise InvalidJob("must not be empty", "/unique/key")
    for i, state in enumerate(unique.final_states):
        if state not in FINAL_STATES:
            raise InvalidJob(
                "may only add completed, cancelled or dead: the other states always hold", f"/unique/final_states/{i}"
            )
    if unique.until_started and unique.final_states:
        raise InvalidJob("goes with no final_states: the key is free once the job has started", "/unique/until_started")
    if unique.keep_run_at and unique.on_conflict != OnConflict.REPLACE:
        raise InvalidJob("needs on_conflict replace: nothing else would change run_at", "/unique/keep_run_at")
    if unique.window_s is not None:
        if not unique.final_states:
            raise InvalidJob("needs final_states: it is how long a final state holds the key", "/unique/window_s")
        _number(unique.window_s, "/unique/window_s", 0.0, limits.WINDOW_S_MAX)
