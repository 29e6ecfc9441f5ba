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
    _in_head = False
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # Only a head that came in pieces is looked at: one that came whole fits in one read.
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > self.bytes_max:
                self._refuse(HeadersTooLarge(f"request line and headers may have at most {self.bytes_max} bytes"))
            elif self._head_timer is None:
                self._arm()

    def on_message_begin(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._disarm()
        super().on_headers_complete()

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

    def _refuse(self, error: HttpError) -> None:
        self._disarm()
        self._in_head = False
        if not self._answering() and not self.transport.is_closing():
            status, body, _ = problem.reply(error)
            head = b"content-type: %s\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % (
                problem.CONTENT_TYPE,
                len(body),
            )
            self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.close()
