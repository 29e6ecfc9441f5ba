"""Errors as ``application/problem+json`` (RFC 9457): every error of the server leaves through here."""

from __future__ import annotations

from typing import ClassVar, Final

import msgspec

from goqueue.api.wire import Problem
from goqueue.model.errors import GoQueueError, InvalidInput, UniqueConflict

CONTENT_TYPE: Final = b"application/problem+json"
RETRY_AFTER_S: Final = 1


class HttpError(GoQueueError):
    """Something is wrong with the request as such."""

    code = "bad_request"
    status = 400
    headers: ClassVar[tuple[tuple[bytes, bytes], ...]] = ()


class MalformedJson(HttpError):
    """The body is not valid JSON."""

    code = "malformed_json"


class InvalidIdempotencyKey(HttpError):
    """The Idempotency-Key header is not 1 to 255 printable ASCII characters."""

    code = "invalid_idempotency_key"


class RouteNotFound(HttpError):
    """There is nothing at this path."""

    code = "route_not_found"
    status = 404


class MethodNotAllowed(HttpError):
    """The path exists, but not with this method."""

    code = "method_not_allowed"
    status = 405

    def __init__(self, message: str, allowed: str) -> None:
        super().__init__(message)
        self.allowed = allowed


class RequestTimeout(HttpError):
    """The request did not arrive in time."""

    code = "request_timeout"
    status = 408
    retryable = True
    headers = ((b"connection", b"close"),)


class BodyTooLarge(HttpError):
    """The body is larger than this server accepts."""

    code = "body_too_large"
    status = 413
    headers = ((b"connection", b"close"),)


class UnsupportedMediaType(HttpError):
    """The body must be JSON, uncompressed, with Content-Type application/json."""

    code = "unsupported_media_type"
    status = 415


class HeadersTooLarge(HttpError):
    """The request line and headers are larger than this server accepts."""

    code = "headers_too_large"
    status = 431
    headers = ((b"connection", b"close"),)


class InternalError(HttpError):
    """The server failed in a way that nobody foresaw. Its log has the details."""

    code = "internal_error"
    status = 500


_encoder = msgspec.json.Encoder()


def problem(error: GoQueueError, prefix: str = "") -> Problem:
    """Return what callers see of ``error``. ``prefix`` goes before its pointer (the item of a batch)."""
    pointer: str | None = None
    if isinstance(error, InvalidInput):
        pointer = prefix + error.pointer
        detail = error.detail
    else:
        pointer = prefix or None
        detail = str(error)
    return Problem(
        type=f"/problems/{error.code}",
        title=_title(error.__class__),
        status=error.status,
        code=error.code,
        retryable=error.retryable,
        detail=_presentable(detail),
        pointer=None if pointer is None else _presentable(pointer),
        holder_id=error.holder_id if isinstance(error, UniqueConflict) else None,
    )


def reply(error: GoQueueError) -> tuple[int, bytes, tuple[tuple[bytes, bytes], ...]]:
    """Return status, body and headers (without Content-Type and Content-Length) of the answer to ``error``."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if isinstance(error, HttpError):
        headers = error.headers
    if isinstance(error, MethodNotAllowed):
        headers += ((b"allow", error.allowed.encode()),)
    if error.status == 503:
        headers += ((b"retry-after", str(RETRY_AFTER_S).encode()),)
    return error.status, _encoder.encode(problem(error)), headers


def _title(error: type[Exception]) -> str:
    lines = (error.__doc__ or error.__name__).strip().splitlines()
    return lines[0].split("``")[0].rstrip(" .:")


def _presentable(text: str) -> str:
    """An error may quote what the caller sent; what UTF-8 cannot hold is shown escaped."""
    return text.encode("utf-8", "backslashreplace").decode()
