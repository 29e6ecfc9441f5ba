"""What ties a worker process to its supervisor: a socket, with one JSON message per line in both directions.

The supervisor says ``stop``, and that it has beaten for the worker while that could not. The worker says how its last
beat looked, that it wants to be replaced, how far its stop has come, and what the store has not taken. When the other
end is gone, the worker stops gracefully: nobody would restart or watch it any longer.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec
import structlog

from goqueue.model.lease import Beat
from goqueue.model.outcome import Settlement

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable
    from typing import Protocol

    class StopWorker(Protocol):
        """`Worker.stop`."""

        def __call__(self, *, now: bool = False, patience_s: float = 0.0) -> None: ...


FD_VARIABLE: Final = "GOQUEUE_LIFELINE_FD"
LINE_BYTES_MAX: Final = 1 << 20
WILL_BYTES: Final = 1 << 18
"""A line of a will is about this long: with one outcome more it is still far from `LINE_BYTES_MAX`."""
SEND_AGAIN_S: Final = 0.01
HELLO_S: Final = 30.0

log = structlog.get_logger("goqueue.engine")


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """Supervisor to worker, first of all: who it is and what to do. A command line could be seen by everybody."""

    worker_id: str
    target: str
    payload: str
    sys_path: list[str]


class StopNow(msgspec.Struct, frozen=True, tag="stop"):
    """Supervisor to worker: stop gracefully; with ``now`` hand running jobs back at once."""

    now: bool = False
    patience_s: float = 0.0
    """Another process has its place, and nobody is in a hurry: what runs has this long before the grace begins."""


class BeatenFor(msgspec.Struct, frozen=True, tag="beaten_for"):
    """Supervisor to worker: the store was told at ``sent_at`` (monotonic, the same in all processes) to keep you."""

    sent_at: float
    ttl_s: float


class Beating(msgspec.Struct, frozen=True, tag="beating"):
    """Worker to supervisor: this beat has reached the store. Without leases, which only the worker can speak for."""

    beat: Beat


class Recycling(msgspec.Struct, frozen=True, tag="recycling"):
    """Worker to supervisor: another process should take this one's place. It goes on until it is told to stop."""

    reason: str


class Stopping(msgspec.Struct, frozen=True, tag="stopping"):
    """Worker to supervisor: it stops, for whatever reason, and must have ended when a stop's time is over, which begins
    after ``patience_s``. Said again when that has become shorter."""

    patience_s: float = 0.0


class Will(msgspec.Struct, frozen=True, tag="will"):
    """Worker to supervisor: it ends before the store has taken these outcomes. Whoever buries it brings them there."""

    outcomes: list[Settlement]


class Left(msgspec.Struct, frozen=True, tag="left"):
    """Worker to supervisor: it holds no leases any more and the store knows that; there is nothing to bury."""


ToWorker: TypeAlias = Hello | StopNow | BeatenFor
ToSupervisor: TypeAlias = Beating | Recycling | Stopping | Will | Left

encode: Final = msgspec.json.Encoder().encode
decode_to_worker: Final[msgspec.json.Decoder[ToWorker]] = msgspec.json.Decoder(ToWorker)
decode_to_supervisor: Final[msgspec.json.Decoder[ToSupervisor]] = msgspec.json.Decoder(ToSupervisor)


class Lifeline:
    """The worker's end."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._buffer = b""
        self._unsent = b""
        self.bequeathed = 0
        self._stop: StopWorker | None = None
        self._orphaned: Callable[[], None] | None = None
        self._beaten_at: Callable[[float, float], None] | None = None

    def hello(self) -> Hello:
        """Wait for the first message. Raises `EOFError` when the supervisor has gone."""
        self._connection.settimeout(HELLO_S)
        while b"\n" not in self._buffer:
            try:
                chunk = self._connection.recv(65_536)
            except TimeoutError:
                chunk = b""
            if not chunk:
                raise EOFError("the supervisor has gone before it said what to do")
            self._buffer += chunk
        self._connection.setblocking(False)
        line, self._buffer = self._buffer.split(b"\n", 1)
        return msgspec.json.decode(line, type=Hello)

    def attach(
        self, *, stop: StopWorker, orphaned: Callable[[], None], beaten_at: Callable[[float, float], None]
    ) -> None:
        """Listen on the running loop from now on. ``orphaned`` is called when the supervisor has gone."""
        self._stop, self._orphaned, self._beaten_at = stop, orphaned, beaten_at
        asyncio.get_running_loop().add_reader(self._connection.fileno(), self.read)
        self._act_on_lines()

    def detach(self) -> None:
        """Stop listening. Idempotent."""
        if self._stop is not None:
            self._stop = None
            asyncio.get_running_loop().remove_reader(self._connection.fileno())

    def tell(self, beat: Beat) -> None:
        """Say that this beat has reached the store. A supervisor that does not listen misses it, and hears the next."""
        if not self._unsent:
            self._unsent = encode(Beating(msgspec.structs.replace(beat, held=()))) + b"\n"
        self._send()

    def say(self, message: Recycling | Stopping | Left) -> None:
        """Say something that must not get lost: with the next beat, if the supervisor does not listen now."""
        if len(self._unsent) < LINE_BYTES_MAX:
            self._unsent += encode(message) + b"\n"
        self._send()

    async def bequeath(self, outcomes: Iterable[Settlement]) -> None:
        """Hand these over to the supervisor as fast as it reads. `bequeathed` counts them, to the end."""
        piece: list[Settlement] = []
        size = 0
        for one in outcomes:
            piece.append(one)
            size += len(encode(one))
            if size >= WILL_BYTES:
                await self._hand_over(piece)
                piece, size = [], 0
        if piece:
            await self._hand_over(piece)

    async def _hand_over(self, piece: list[Settlement]) -> None:
        self._unsent += encode(Will(piece)) + b"\n"
        self._send()
        while self._unsent and self._stop is not None:
            await asyncio.sleep(SEND_AGAIN_S)
            self._send()
        if not self._unsent:
            self.bequeathed += len(piece)

    def _send(self) -> None:
        with contextlib.suppress(OSError):
            while self._unsent:
                self._unsent = self._unsent[self._connection.send(self._unsent) :]

    def read(self) -> None:
        """Act on all that has come. Never blocks; may be called at any time on the loop's thread."""
        while self._stop is not None:
            try:
                chunk = self._connection.recv(65_536)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                chunk = b""
            if not chunk:
                log.warning(
                    "stop", reason="the supervisor has gone: nobody would watch this process, or start it again"
                )
                orphaned = self._orphaned
                self.detach()
                if orphaned is not None:
                    orphaned()
                return
            self._buffer = (self._buffer + chunk)[-LINE_BYTES_MAX:]
            self._act_on_lines()

    def _act_on_lines(self) -> None:
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            self._act(line)

    def _act(self, line: bytes) -> None:
        match decode_to_worker.decode(line):
            case Hello():
                pass
            case StopNow(now=now, patience_s=patience_s):
                if self._stop is not None:
                    self._stop(now=now, patience_s=patience_s)
            case BeatenFor(sent_at=sent_at, ttl_s=ttl_s):
                if self._beaten_at is not None:
                    self._beaten_at(sent_at, ttl_s)
