"""Bounds on what a connection may send before there is a request: how many bytes of headers, and how slowly.

The server below bounds neither, and answers what it cannot parse in plain text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from goqueue.api import problem
from goqueue.api.problem import HeadersTooLarge, HttpError, RequestTimeout

if TYPE_CHECKING:
    import asyncio


def bounded_protocol(*, header_bytes_max: int, header_timeout_s: float) -> type[HttpToolsProtocol]:
    """Return the protocol class for connections with these bounds."""

    class Bounded(_BoundedProtocol):
        bytes_max = header_bytes_max
        timeout_s = header_timeout_s

    return Bounded


class _BoundedProtocol(HttpToolsProtocol):
    bytes_max: int
    timeout_s: float
    _head_bytes = 0
    """Bytes of a head that came in pieces; after it, bytes since the last ones of a body: chunk headers, trailers."""
    _in_head = False
    _in_body = False
    _body_came = False
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._body_came = False
        super().data_received(data)
        # Only what came in pieces is looked at: a head, or trailers, that came whole fit in one read.
        if self._in_head or (self._in_body and not self._body_came):
            self._head_bytes += len(data)
            if self._head_bytes > self.bytes_max:
                what = "request line and headers" if self._in_head else "trailers and chunk extensions"
                self._refuse(HeadersTooLarge(f"{what} may have at most {self.bytes_max} bytes"))
            elif self._in_head and self._head_timer is None:
                self._arm()

    def on_message_begin(self) -> None:
        self._in_head = True
        self._in_body = False
        self._head_bytes = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # else it is a trailer: nobody asked for one, and it must not pass for a header
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._in_head = False
        self._in_body = True
        self._head_bytes = 0
        self._disarm()

    def on_body(self, body: bytes) -> None:
        self._body_came = True
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(HttpError(f"this is not HTTP/1.1: {msg}"))

    def _arm(self) -> None:
        self._head_timer = self.loop.call_later(self.timeout_s, self._late)

    def _disarm(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _late(self) -> None:
        self._head_timer = None
        if self._answering():
            self._arm()  # an earlier request of this connection is still being answered
        elif self._in_head:
            self._refuse(RequestTimeout(f"the headers did not arrive within {self.timeout_s:g} s"))
        else:
            self.transport.close()

    def _answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request, whatever its type says
        return cycle is not None and not cycle.response_complete

    def _may_answer(self) -> bool:
        """Is it the turn of the request that is arriving, and has nothing of its answer been sent?"""
        if self.transport.is_closing():
            return False
        if self._in_body:
            return not self.pipeline and not self.cycle.response_started
        return not self._answering()

    def _refuse(self, error: HttpError) -> None:
        self._disarm()
        if self._may_answer():
            if self._in_body:  # the handler that waits for the body has nobody to answer any more
                self.cycle.disconnected = True
                self.cycle.message_event.set()
            status, body, _ = problem.reply(error)
            head = b"content-type: %s\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % (
                problem.CONTENT_TYPE,
                len(body),
            )
            self.transport.write(STATUS_LINE[status] + head + body)
        self._in_head = self._in_body = False
        self.transport.close()
