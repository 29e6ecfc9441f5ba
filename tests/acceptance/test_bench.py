"""The benches at a tiny size: that they run and tell all they should, not how fast anything is."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.load import Load, percentile_ms

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = [
    "--jobs",
    "120",
    "--runs",
    "1",
    "--seconds",
    "1",
    "--per-s",
    "100",
    "--no-peers",
    "--quiet-s",
    "0",
    "--seed",
    "7",
]
FIGURES = {
    "drain": {"goqueue, 1 process"},
    "pickup": {"goqueue p50", "goqueue p99"},
    "http": {
        "goqueue at 100/s, p50",
        "goqueue at 100/s, p99",
        "goqueue at 100/s, p99.9",
        "goqueue, 32 connections",
    },
    "held": {"goqueue, clean, last tenth", "goqueue, snapshot held, last tenth"},
}

Lines = list[dict[str, Any]]  # Any: JSON


@pytest.fixture(scope="module")
def lines() -> Lines:
    """The JSON lines of one call of everything."""
    done = subprocess.run(
        [sys.executable, "-m", "bench", *OPTIONS], cwd=ROOT, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.parametrize("bench", list(FIGURES))
def test_tells_every_figure_and_what_it_depends_on(lines: Lines, bench: str) -> None:
    found = {line["figure"]: line for line in lines if line["bench"] == bench}
    assert set(found) == FIGURES[bench]
    for line in found.values():
        assert line["value"] > 0
        assert len(line["runs"]) == len(line["machine_busy_before"]) == 1
        facts = line["facts"]
        assert facts["cores"] > 0
        assert facts["packages"]["psycopg"]
        assert facts["database"]["postgresql"]
        assert (facts["database"]["fsync"], facts["database"]["synchronous_commit"]) == ("on", "on")


@pytest.mark.slow
@pytest.mark.postgres
def test_prints_how_the_workers_were_configured(lines: Lines) -> None:
    config = next(line["config"] for line in lines if line["bench"] == "drain")
    assert "120 no-op jobs" in config
    assert "concurrency 500, prefetch 500" in config


# -- the load generator ----------------------------------------------------------------------------


class Stub:
    """An HTTP server that answers in two pieces, and keeps one request waiting."""

    def __init__(self, *, status: int = 201, stall_s: float = 0.0) -> None:
        self.answered = 0
        self._status = status
        self._stall_s = stall_s

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))
                if self.answered == 0:
                    await asyncio.sleep(self._stall_s)
                self.answered += 1
                writer.write(f"HTTP/1.1 {self._status} x\r\nContent-Le".encode())
                await writer.drain()
                await asyncio.sleep(0)
                writer.write(b"ngth: 2\r\n\r\n{}")
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


async def load_on(stub: Stub, *, connections: int) -> tuple[asyncio.Server, Load]:
    server = await asyncio.start_server(stub.serve, "127.0.0.1", 0)
    load = Load(server.sockets[0].getsockname()[1])
    await load.connect(connections)
    return server, load


async def test_in_the_open_loop_a_stall_counts_for_all_who_waited_behind_it() -> None:
    server, load = await load_on(Stub(stall_s=0.3), connections=1)
    async with server:
        await load.open_loop(100, 0.2)
        load.close()
    assert len(load.latencies) == 20
    # The last was due 0.19 s after the first, which took 0.3 s.
    assert min(load.latencies) > 0.1
    assert percentile_ms(load.latencies, 1.0) >= 300


async def test_in_the_closed_loop_every_answer_is_counted() -> None:
    stub = Stub()
    server, load = await load_on(stub, connections=4)
    async with server:
        per_s = await load.closed_loop(0.2)
        load.close()
    assert len(load.latencies) == stub.answered > 4
    assert per_s > 0


async def test_other_answers_than_201_are_no_latencies() -> None:
    server, load = await load_on(Stub(status=503), connections=2)
    async with server:
        await load.open_loop(100, 0.1)
        load.close()
    assert (load.failed, load.latencies) == (10, [])
