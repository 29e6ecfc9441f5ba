"""Runs one operation for one request: who asks, the body within its bounds, the deadline, and every error as a problem.

Written on bare ASGI: the request and response objects of a framework would cost more than all of this.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from goqueue.api import problem
from goqueue.api.problem import BodyTooLarge, InternalError, MethodNotAllowed, RequestTimeout, UnsupportedMediaType
from goqueue.model.errors import GoQueueError, StoreUnavailable
from goqueue.service.access import Caller

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.types import Receive, Send
    from starlette.types import Scope as AsgiScope

    from goqueue.api.auth import Authenticator
    from goqueue.api.operations import Operation

_log = logging.getLogger("goqueue.api")

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]
Reply: TypeAlias = tuple[int, bytes, Headers]
"""Status, body and further headers of an answer."""

_JSON = b"application/json"
_METHODS_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


class Request(msgspec.Struct, frozen=True, gc=False):
    """What a handler gets."""

    caller: Caller
    headers: Mapping[bytes, bytes]
    body: bytes
    query: bytes
    id: str = ""
    """The ``{id}`` of the path."""


if TYPE_CHECKING:
    Handler = Callable[[Request], Awaitable[Reply]]


class _Gone(Exception):
    """The client hung up: nobody is there to answer."""


class Endpoint:
    """One operation as an ASGI application."""

    def __init__(
        self,
        operation: Operation,
        handler: Handler,
        authenticator: Authenticator,
        *,
        body_bytes_max: int,
        timeout_s: float,
    ) -> None:
        self._operation = operation
        self._scope = operation.scope
        self._has_body = operation.method in _METHODS_WITH_BODY
        self._handler = handler
        self._authenticator = authenticator
        self._body_bytes_max = body_bytes_max
        self._timeout_s = timeout_s

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            reply = await self._answer(scope, receive)
        except _Gone:
            return
        except GoQueueError as e:
            await send_problem(send, e)
            return
        except Exception:
            _log.exception("%s failed", self._operation.name)
            await send_problem(send, InternalError("the server failed; its log says why"))
            return
        await _send(send, reply, _JSON)

    async def _answer(self, scope: AsgiScope, receive: Receive) -> Reply:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        arrived = not self._has_body
        try:
            async with asyncio.timeout(self._timeout_s):
                caller = await self._authenticator.authenticate(headers)
                if self._scope is not None:
                    caller.require(self._scope)
                body = b""
                if self._has_body:
                    body = await self._body(headers, receive)
                    arrived = True
                params = scope.get("path_params")
                request = Request(caller, headers, body, scope["query_string"], params["id"] if params else "")
                return await self._handler(request)
        except TimeoutError:
            if not arrived:
                raise RequestTimeout(f"the body did not arrive within {self._timeout_s:g} s") from None
            raise StoreUnavailable(
                f"no answer within {self._timeout_s:g} s; whether the request took effect is not known"
            ) from None

    async def _body(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        content_type = headers.get(b"content-type")
        if content_type != _JSON:
            self._check_type(content_type)
        if headers.get(b"content-encoding", b"identity") != b"identity":
            raise UnsupportedMediaType("send the body uncompressed: Content-Encoding is not supported")
        length = headers.get(b"content-length")
        if length is not None and len(length) < 20 and length.isdigit() and int(length) > self._body_bytes_max:
            raise self._too_large()
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            body = await self._rest(body, receive)
        if len(body) > self._body_bytes_max:
            raise self._too_large()
        if body and content_type is None:
            raise UnsupportedMediaType("send Content-Type: application/json")
        return body

    async def _rest(self, first: bytes, receive: Receive) -> bytes:
        chunks = [first]
        size = len(first)
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            chunk = message.get("body", b"")
            chunks.append(chunk)
            size += len(chunk)
            if size > self._body_bytes_max:
                raise self._too_large()
            if not message.get("more_body"):
                return b"".join(chunks)

    def _check_type(self, content_type: bytes | None) -> None:
        if content_type is None:
            # Only where no body is needed; a foreign page cannot use this, it would have to send its Origin.
            if self._operation.body_required:
                raise UnsupportedMediaType("send Content-Type: application/json")
        elif content_type.partition(b";")[0].strip().lower() != _JSON:
            raise UnsupportedMediaType("send JSON with Content-Type: application/json")

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"a request body may have at most {self._body_bytes_max} bytes")


class Methods:
    """The operations of one path, by method."""

    def __init__(self, endpoints: Mapping[str, Endpoint]) -> None:
        self._endpoints = dict(endpoints)
        if "GET" in endpoints:
            self._endpoints["HEAD"] = endpoints["GET"]  # the server below cuts the body
        self._allowed = ", ".join(sorted(self._endpoints))

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Hand over to the operation of the request's method, or answer 405."""
        endpoint = self._endpoints.get(scope["method"])
        if endpoint is None:
            await send_problem(send, MethodNotAllowed(f"this path takes {self._allowed}", self._allowed))
        else:
            await endpoint(scope, receive, send)


async def send_problem(send: Send, error: GoQueueError) -> None:
    """Answer with ``error`` as problem+json."""
    await _send(send, problem.reply(error), problem.CONTENT_TYPE)


async def _send(send: Send, reply: Reply, content_type: bytes) -> None:
    status, body, more = reply
    headers: list[tuple[bytes, bytes]] = [*more]
    if status != 204:
        if not more or more[0][0] != b"content-type":
            headers.append((b"content-type", content_type))
        headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
