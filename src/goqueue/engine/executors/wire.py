"""What a worker and the processes of its ``run_in="process"`` handlers say to each other, over a socket pair."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec

from goqueue.engine.completion import Completer
from goqueue.model.errors import InvalidInput
from goqueue.model.job import LogLevel, NewJob
from goqueue.model.lease import Lease
from goqueue.model.outcome import Outcome
from goqueue.model.query import Enqueued

FD_VARIABLE: Final = "GOQUEUE_HANDLER_FD"
HEADER: Final = struct.Struct("!I")
MESSAGE_BYTES_MAX: Final = 16 << 20
"""More than any job, result or progress has. Only an enqueue of many large jobs in one call comes near it."""


def _too_long(what: str, size: int) -> InvalidInput:
    return InvalidInput(
        f"a {what} between a worker and its handler's process has {size} bytes, more than {MESSAGE_BYTES_MAX}: "
        "enqueue fewer jobs in one call"
    )


class TooLong(Exception):
    """A message says that it is longer than any may be: whatever wrote it does not speak this protocol."""


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """The first message to a new process: where the worker finds its modules, and its application if that is known."""

    sys_path: list[str]
    app: str = ""
    """``module:attribute``; empty: there is no lifespan, and tasks are found in their own modules."""
    completer: Completer | None = None
    """How a handler completes its job in a transaction of its own; None: it cannot."""


class Run(msgspec.Struct, frozen=True, tag="run"):
    """Run this job with the application's task of its kind, or with the task that the module has under that name."""

    module: str
    name: str
    lease: Lease
    since_claim_s: float = 0.0


class Halt(msgspec.Struct, frozen=True, tag="halt"):
    """The job that it runs shall stop. ``stop`` is the name of a `goqueue.engine.verdict.Stop`."""

    id: str
    fence: int
    stop: str


class EnqueueReply(msgspec.Struct, frozen=True, tag="enqueue_reply"):
    """The answer to `Enqueue`: ``error`` is empty, or its class name and text."""

    answers: list[Enqueued]
    error: str = ""
    message: str = ""
    number: int = 0


class Started(msgspec.Struct, frozen=True, tag="started"):
    """The process has taken the job: from now on its death is the job's."""


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """The handler says how far it is."""

    value: bytes


class Log(msgspec.Struct, frozen=True, tag="log"):
    """The handler has logged a line."""

    level: LogLevel
    message: str


class Completing(msgspec.Struct, frozen=True, tag="completing"):
    """The handler is about to complete its job in a transaction of its own; false: that has failed."""

    value: bool


class Enqueue(msgspec.Struct, frozen=True, tag="enqueue"):
    """The handler wants to store other jobs under its lease."""

    jobs: list[NewJob[object]]
    number: int = 0
    """Comes back with the answer: one that comes after it was waited for must not be taken for the next one's."""


class Done(msgspec.Struct, frozen=True, tag="done"):
    """The attempt has ended like this, as judged when ``stop`` was known."""

    outcome: Outcome
    stop: str = "NONE"
    resident_bytes: int = 0
    last: bool = False
    """This process takes no further job: its application would not start."""


ToHandler: TypeAlias = Hello | Run | Halt | EnqueueReply
ToWorker: TypeAlias = Started | Progress | Log | Completing | Enqueue | Done

encode: Final = msgspec.msgpack.Encoder().encode
decode_to_handler: Final = msgspec.msgpack.Decoder(ToHandler).decode
decode_to_worker: Final = msgspec.msgpack.Decoder(ToWorker).decode


def frame(message: ToHandler | ToWorker) -> bytes:
    """Return a message with its length in front. Raises `InvalidInput` if it is longer than `MESSAGE_BYTES_MAX`."""
    body = encode(message)
    if len(body) > MESSAGE_BYTES_MAX:
        raise _too_long(type(message).__name__.lower(), len(body))
    return HEADER.pack(len(body)) + body


def check_size(jobs: Sequence[NewJob[object]]) -> None:
    """Refuse what cannot be sent before it is encoded, which would take its memory again. Raises `InvalidInput`."""
    size = sum(len(job.args) for job in jobs)
    if size > MESSAGE_BYTES_MAX:
        raise _too_long("enqueue", size)


def length(header: bytes) -> int:
    """Return how many bytes follow a header. Raises `TooLong`, before anything has been kept for them."""
    size: int
    (size,) = HEADER.unpack(header)
    if size > MESSAGE_BYTES_MAX:
        raise TooLong(f"a message of {size} bytes, more than {MESSAGE_BYTES_MAX}")
    return size
