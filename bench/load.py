"""An HTTP load generator: `open` sends at a steady rate whatever comes back, `closed` as fast as the answers come.

`python -m bench.load open --port P --per-s 1000 --seconds 10` prints one JSON object. In the open loop a latency
counts from the instant at which the request *should* have been sent, so a server that stalls cannot hide the requests
that had to wait behind the stall; ``late_p99_ms`` says how far the generator itself was behind its schedule.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import time
from collections import deque
from typing import cast

import uvloop

CONNECT_S = 10.0
ANSWERS_S = 30.0
JOB = {
    "kind": "noop",
    "args": {"i": 12345, "to": "email", "user": "user-00012345", "body": "lorem ipsum dolor sit amet, consect"},
}


class Connection(asyncio.Protocol):
    """One keep-alive connection with one request under way at a time."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's is one in all but its bases.
        self._transport = cast("asyncio.Transport", transport)

    def send(self, due: float) -> None:
        """Send the request that should have been sent at ``due``."""
        assert self._transport is not None
        self._due = due
        self._transport.write(self._load.request)

    def data_received(self, data: bytes) -> None:
        """Take answers apart as far as is needed to find their ends."""
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        start = head.find(b"content-length:")
        length = int(head[start + 15 :].split(b"\r\n", 1)[0]) if start >= 0 else 0
        if len(self._buffer) >= end + 4 + length:
            self._buffer = self._buffer[end + 4 + length :]
            self._load.answered(self, int(head[9:12]), self._due)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell."""
        self._load.lost(exc)

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()


class Load:
    """All connections, and what they measured."""

    def __init__(self, port: int, batch: int = 0) -> None:
        """Each request submits one job, or with ``batch`` that many."""
        body = json.dumps({"jobs": [JOB] * batch} if batch else JOB).encode()
        path = "/v1/jobs/batch" if batch else "/v1/jobs"
        self.request = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        self._good = 200 if batch else 201
        self.latencies: list[float] = []
        self.late: list[float] = []
        self.failed = 0
        self.error = ""
        self._port = port
        self._connections: list[Connection] = []
        self._idle: deque[Connection] = deque()
        self._due: deque[float] = deque()
        self._under_way = 0
        self._quiet = asyncio.Event()
        self._until = 0.0
        self._closing = False

    async def connect(self, count: int) -> None:
        """Open all connections before the first request."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_S):
            for _ in range(count):
                _, connection = await loop.create_connection(lambda: Connection(self), "127.0.0.1", self._port)
                self._connections.append(connection)
                self._idle.append(connection)

    async def open_loop(self, per_s: float, seconds: float) -> float:
        """Send on schedule; a request that finds no idle connection waits for one, and its clock runs. Requests/s."""
        started = time.perf_counter()
        for number in itertools.count():
            due = started + number / per_s
            if due >= started + seconds or self.error:
                break
            if (pause := due - time.perf_counter()) > 0:
                await asyncio.sleep(pause)
            self.late.append(time.perf_counter() - due)
            self._due.append(due)
            self._send_waiting()
        await self._answers()
        return len(self.latencies) / (time.perf_counter() - started)

    async def closed_loop(self, seconds: float) -> float:
        """Keep all connections busy. Requests/s."""
        started = time.perf_counter()
        self._until = started + seconds
        for connection in self._connections:
            self._due.append(time.perf_counter())
            self._idle.remove(connection)
            self._under_way += 1
            connection.send(self._due.popleft())
        await self._answers(seconds)
        return len(self.latencies) / (time.perf_counter() - started)

    def answered(self, connection: Connection, status: int, due: float) -> None:
        """Note an answer and use the connection again."""
        now = time.perf_counter()
        if status == self._good:
            self.latencies.append(now - due)
        else:
            self.failed += 1
        if now < self._until:
            connection.send(now)
            return
        self._under_way -= 1
        self._idle.append(connection)
        self._send_waiting()

    def lost(self, reason: Exception | None) -> None:
        """A connection went away before the end: the run is worth nothing."""
        if not self._closing:
            self.error = f"the server closed a connection: {reason or 'at its end'}"
            self._quiet.set()

    def close(self) -> None:
        """Hang up everywhere."""
        self._closing = True
        for connection in self._connections:
            connection.close()

    def _send_waiting(self) -> None:
        while self._due and self._idle:
            self._under_way += 1
            self._idle.popleft().send(self._due.popleft())
        if not self._due and not self._under_way:
            self._quiet.set()

    async def _answers(self, more_s: float = 0.0) -> None:
        self._quiet.clear()
        if self._due or self._under_way:
            async with asyncio.timeout(ANSWERS_S + more_s):
                await self._quiet.wait()


def percentile_ms(seconds: list[float], share: float) -> float:
    """That percentile, in milliseconds."""
    ordered = sorted(seconds)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1e3, 3) if ordered else 0.0


async def run(options: argparse.Namespace) -> dict[str, float | str]:
    """One measurement."""
    load = Load(options.port, options.batch)
    await load.connect(options.connections)
    try:
        if options.loop == "open":
            per_s = await load.open_loop(options.per_s, options.seconds)
        else:
            per_s = await load.closed_loop(options.seconds)
    finally:
        load.close()
    return {
        "per_s": round(per_s, 1),
        "p50_ms": percentile_ms(load.latencies, 0.5),
        "p99_ms": percentile_ms(load.latencies, 0.99),
        "p999_ms": percentile_ms(load.latencies, 0.999),
        "max_ms": percentile_ms(load.latencies, 1.0),
        "late_p99_ms": percentile_ms(load.late, 0.99),
        "answers": len(load.latencies),
        "failed": load.failed,
        "error": load.error,
    }


def main() -> None:
    """Parse the command line and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("loop", choices=["open", "closed"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--batch", type=int, default=0, help="jobs of one request; 0: one job, by itself")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--per-s", type=float, default=1000.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    print(json.dumps(uvloop.run(run(parser.parse_args()))))


if __name__ == "__main__":
    main()
