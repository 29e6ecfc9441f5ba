"""A faulty network: a TCP proxy on loopback between GoQueue and PostgreSQL, in a thread of its own.

It reads the frontend/backend protocol (PostgreSQL documentation, chapter "Frontend/Backend Protocol") just so far that
it knows which statements pass and where a transaction is committed, so that a test can cut a connection exactly there.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

HOST: Final = "127.0.0.1"
CHUNK_BYTES: Final = 256 * 1024
CALL_S: Final = 10.0
"""A call from the test to the proxy's thread is done within this time."""
TRIPS_KEPT_MAX: Final = 200_000

_SSL, _CANCEL, _GSS = 80877103, 80877102, 80877104
_WITHOUT_TYPE: Final = 8
"""Bytes of a request for SSL or GSS."""

T = TypeVar("T")


class Where(Enum):
    """Where a connection is cut, as seen from a commit."""

    BEFORE = auto()
    """The commit is not passed on: nothing has happened."""
    WITHOUT_ANSWER = auto()
    """It is passed on and answered, and the answer is dropped: it has happened."""
    AT_ONCE = auto()
    """It is passed on, and both sides are reset at that instant: nobody knows."""
    SILENT = auto()
    """It is passed on, and its answer never arrives: no reset either."""


@dataclass(frozen=True)
class Trip:
    """Statements that a client sent together. ``at_s`` is monotonic, ``link`` the number of the connection."""

    at_s: float
    link: int
    statements: tuple[bytes, ...]


@dataclass(frozen=True)
class _Sent:
    """One statement, and the message that carries its parameters."""

    sql: bytes
    carrier: bytes = b""


@dataclass
class _Cut:
    matches: Callable[[_Sent], bool]
    where: Where
    left: int
    then_hole: bool
    done: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))


class Proxy:
    """Listens on a port of its own, passes on to the server of ``url``. A context manager; `url` is what clients get.

    All methods may be called from any thread but the proxy's own.
    """

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._port = 0
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._numbers = 0
        self._to_server = asyncio.Event()
        self._to_client = asyncio.Event()
        self._cuts: deque[_Cut] = deque()
        self.refusing = False
        """Whether new connections are reset at once, as by a host on which nobody listens."""
        self.delay_s = 0.0
        """Added to each piece of data, in both directions."""
        self.connections = 0
        """Connections that are open now."""
        self.connections_max = 0
        """The most that were open at one time."""
        self.connections_in_all = 0
        self.connected_at: list[float] = []
        """When each connection arrived (monotonic)."""
        self.trips: deque[Trip] = deque(maxlen=TRIPS_KEPT_MAX)
        self.recording = False
        """Whether to keep ``trips``."""

    # -- life -------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The database, by way of the proxy."""
        user = self._target.netloc.rpartition("@")[0]
        return urlunsplit((self._target.scheme, f"{user}@{HOST}:{self._port}", *self._target[2:]))

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_S)
        self._loop.close()

    # -- faults -----------------------------------------------------------------------------------

    def black_hole(self, *, answers_only: bool = False) -> None:
        """Deliver nothing any more, and tell nobody: connections are accepted, kept, and silent.

        With ``answers_only`` requests still arrive, and take effect; only what the server says is not heard.
        """
        self._call(self._flow(to_server=answers_only, to_client=False))

    def heal(self) -> None:
        """Deliver again, also what was sent meanwhile (as TCP does)."""
        self._call(self._flow(to_server=True, to_client=True))

    def reset_all(self) -> int:
        """Reset all connections, at both ends; how many there were."""
        return self._call(self._reset_all())

    def cut(self, *words: str, where: Where, about: str = "", times: int = 1, then_hole: bool = False) -> None:
        """Cut the next connections that commit a statement which contains all ``words``.

        ``about``: and has this id of a job among its parameters. ``then_hole``: and from that very instant deliver
        nothing, to anybody, until `heal`.
        """
        wanted = [word.encode() for word in words]
        ids = (about.encode(), uuid.UUID(about).bytes) if about else (b"",)

        def matches(sent: _Sent) -> bool:
            return all(word in sent.sql for word in wanted) and any(id in sent.carrier for id in ids)

        self._cuts.append(_Cut(matches, where, times, then_hole))

    def wait_for_cut(self, timeout_s: float = 30.0) -> None:
        """Return when the oldest cut that was asked for, and not waited for, has happened for the last time."""
        cut = self._cuts[0]
        assert cut.done.acquire(timeout=timeout_s), f"no commit to cut ({cut.where}) in {timeout_s} s"
        self._cuts.popleft()

    # -- in the proxy's thread --------------------------------------------------------------------

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_S)

    async def _start(self) -> None:
        await self._flow(to_server=True, to_client=True)
        self._server = await asyncio.start_server(self._serve, HOST, self._port, limit=CHUNK_BYTES)
        self._port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
        while self._tasks:  # one that was accepted a moment ago may come still
            await self._reset_all()
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)

    async def _flow(self, *, to_server: bool, to_client: bool) -> None:
        for event, open_ in ((self._to_server, to_server), (self._to_client, to_client)):
            (event.set if open_ else event.clear)()

    async def _reset_all(self) -> int:
        links = list(self._links)
        for link in links:
            link.reset()
        return len(links)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._numbers += 1
        link = _Link(self, self._numbers, reader, writer)
        self._links.add(link)
        self.connected_at.append(time.monotonic())
        self.connections_in_all += 1
        self.connections = len(self._links)
        self.connections_max = max(self.connections_max, self.connections)
        try:
            if self.refusing:
                return
            await link.run(self._target.hostname or HOST, self._target.port or 5432)
        except asyncio.CancelledError:
            pass  # only `_stop` cancels
        finally:
            link.reset()
            self._links.discard(link)
            self.connections = len(self._links)
            self._tasks.discard(task)

    def _cut_for(self, statements: list[_Sent]) -> _Cut | None:
        for cut in self._cuts:
            if cut.left and any(cut.matches(sent) for sent in statements):
                cut.left -= 1
                return cut
        return None

    def _cut_done(self, cut: _Cut) -> None:
        if cut.then_hole:
            self._to_server.clear()
            self._to_client.clear()
        if not cut.left:
            cut.done.release()


class _Link:
    """One connection, and what is known of it: which statements it has prepared, and whether it is in a transaction."""

    def __init__(self, proxy: Proxy, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._number = number
        self._reader = reader
        self._writer = writer
        self._server: asyncio.StreamWriter | None = None
        self._started = False
        """Whether the start-up packet has passed: from then on messages have a type."""
        self._prepared: dict[bytes, bytes] = {}
        self._statements: list[_Sent] = []
        """Since the last time that no transaction was open."""
        self._since_sync: list[bytes] = []
        self._awaited = 0
        """ReadyForQuery messages that the server owes."""
        self._in_transaction = False
        self._cut: _Cut | None = None
        self._silent = False

    async def run(self, host: str, port: int) -> None:
        """Pass on until either side ends."""
        await self._proxy._to_server.wait()
        try:
            reader, self._server = await asyncio.open_connection(host, port, limit=CHUNK_BYTES)
        except OSError:
            return  # the server is down: the client is reset
        ways = [asyncio.create_task(self._client_to_server()), asyncio.create_task(self._server_to_client(reader))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    def reset(self) -> None:
        """End both connections with a reset."""
        for writer in (self._writer, self._server):
            if writer is None:
                continue
            raw = writer.get_extra_info("socket")
            if raw is not None and not writer.transport.is_closing():
                with suppress(OSError):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    # -- requests ---------------------------------------------------------------------------------

    async def _client_to_server(self) -> None:
        assert self._server is not None
        rest = b""
        with suppress(OSError):
            while data := await self._reader.read(CHUNK_BYTES):
                await self._pause(self._proxy._to_server)
                rest, whole = self._split(rest + data)
                for message in whole:
                    if await self._request(message):
                        return
                await self._server.drain()

    def _split(self, data: bytes) -> tuple[bytes, list[bytes]]:
        """Split into a rest and whole messages."""
        at = 0
        whole: list[bytes] = []
        while True:
            head = 5 if self._started else 4
            if len(data) - at < max(head, 0 if self._started else _WITHOUT_TYPE):
                return data[at:], whole
            (length,) = struct.unpack_from("!i", data, at + head - 4)
            size = length + head - 4
            if len(data) - at < size:
                return data[at:], whole
            message = data[at : at + size]
            if not self._started:
                (code,) = struct.unpack_from("!i", message, 4)
                self._started = code not in (_SSL, _GSS)
                if code == _CANCEL:
                    self._started = True
            whole.append(message)
            at += size

    async def _request(self, message: bytes) -> bool:
        """Pass one message on; tell whether that was the end of this connection."""
        assert self._server is not None
        ends = self._note(message)
        cut = None
        if ends is not None:
            cut = self._proxy._cut_for(ends)
        if cut is None:
            self._server.write(message)
            return False
        if cut.where in (Where.WITHOUT_ANSWER, Where.SILENT):
            self._cut = cut  # the other way ends it, when the server has answered
            self._server.write(message)
            return False
        if cut.where is Where.AT_ONCE:
            self._server.write(message)
        self._proxy._cut_done(cut)
        self.reset()
        return True

    def _note(self, message: bytes) -> list[_Sent] | None:
        """Note what a message means; the statements that it commits, if it commits."""
        kind = message[:1]
        body = message[5:]
        if kind == b"P":
            name, _, rest = body.partition(b"\0")
            sql = rest.partition(b"\0")[0]
            self._prepared[name] = sql
        elif kind == b"B":
            _, _, rest = body.partition(b"\0")
            sql = self._prepared.get(rest.partition(b"\0")[0], b"")
            self._statements.append(_Sent(sql, message))
            self._since_sync.append(sql)
        elif kind == b"Q":
            sql = body.rstrip(b"\0")
            self._statements.append(_Sent(sql))
            self._since_sync.append(sql)
        if kind not in (b"Q", b"S") or not self._started:
            return None
        self._awaited += 1
        if self._proxy.recording and self._since_sync:
            self._proxy.trips.append(Trip(time.monotonic(), self._number, tuple(self._since_sync)))
        words = b" ".join(self._since_sync[-1:]).lstrip()[:8].upper()
        self._since_sync = []
        if words.startswith(b"BEGIN"):
            self._in_transaction = True  # the server will say so, too; but perhaps not before the next message
        if self._in_transaction and not words.startswith((b"COMMIT", b"ROLLBACK", b"END")):
            return None
        statements, self._statements = self._statements, []
        return None if words.startswith(b"ROLLBACK") else statements

    # -- answers ----------------------------------------------------------------------------------

    async def _server_to_client(self, reader: asyncio.StreamReader) -> None:
        rest = b""
        with suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                rest = self._hear(rest + data) if self._started else b""
                if self._cut is not None:
                    if self._awaited <= 0 and not self._silent:
                        self._silent = True
                        self._proxy._cut_done(self._cut)
                        if self._cut.where is Where.WITHOUT_ANSWER:
                            self.reset()
                            return
                    continue  # not a byte of the answer passes
                await self._pause(self._proxy._to_client)
                self._writer.write(data)
                await self._writer.drain()

    def _hear(self, data: bytes) -> bytes:
        """Follow the server's messages; return what is not whole yet."""
        at = 0
        while len(data) - at >= 5:
            size = struct.unpack_from("!i", data, at + 1)[0] + 1
            if len(data) - at < size:
                break
            if data[at : at + 1] == b"Z":
                self._awaited = max(0, self._awaited - 1)
                if not self._awaited:
                    self._in_transaction = data[at + 5 : at + 6] != b"I"
            at += size
        return data[at:]

    async def _pause(self, flows: asyncio.Event) -> None:
        if self._proxy.delay_s:
            await asyncio.sleep(self._proxy.delay_s)
        await flows.wait()
