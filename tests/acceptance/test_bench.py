"""The benches at a tiny size: that they run and tell all they should, not how fast anything is."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench import gate, report, stamps, turns
from bench.load import Load, percentile_ms
from bench.processes import Failed
from bench.report import Figure
from bench.sides import feeding, submitting
from bench.watching import Patience

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = [
    "--jobs",
    "40",
    "--processes",
    "1",
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
    "submit": {
        "goqueue, one by one",
        "goqueue, 16 callers",
        "goqueue, 16 callers / one by one",
        "goqueue, bulk of 40",
    },
    "pickup": {
        *(
            f"goqueue, {level}, {percentile}"
            for level in ("idle", "20%", "50%", "80%")
            for percentile in ("p50", "p99")
        ),
        "goqueue, capacity",
    },
    "http": {
        "goqueue at 100/s, p50",
        "goqueue at 100/s, p99",
        "goqueue at 100/s, p99.9",
        *(f"goqueue, {connections} connections" for connections in (16, 32, 64, 256)),
        "goqueue, 32 connections, p99",
        "goqueue, batches of 100, 16 connections",
    },
    "held": {
        "goqueue, clean, last tenth",
        "goqueue, snapshot held, last tenth",
        "goqueue, snapshot held / clean, last tenth",
    },
}

Lines = dict[str, dict[str, Any]]  # Any: JSON


def lines_of(bench: str, *more: str) -> Lines:
    """The JSON lines of one call."""
    done = subprocess.run(
        [sys.executable, "-m", "bench", bench, *OPTIONS, *more], cwd=ROOT, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {line["figure"]: line for line in map(json.loads, filter(_is_json, done.stdout.splitlines()))}


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.parametrize("bench", list(FIGURES))
def test_tells_every_figure_and_what_it_depends_on(bench: str) -> None:
    found = lines_of(bench)
    # What a run of few jobs is too short to tell, the CPU of a job, may be there or not.
    assert set(found) >= FIGURES[bench]
    for line in found.values():
        assert line["value"] > 0
        assert len(line["runs"]) == 1
        facts = line["facts"]
        assert facts["cores"] > 0
        assert facts["packages"]["psycopg"]
        assert facts["database"]["postgresql"]
        assert (facts["database"]["fsync"], facts["database"]["synchronous_commit"]) == ("on", "on")
    if bench == "drain":
        config = found["goqueue, 1 process"]["config"]
        assert "40 no-op jobs" in config
        assert "concurrency 500, prefetch 500" in config


@pytest.mark.slow
@pytest.mark.postgres
def test_a_steady_state_is_told_part_by_part() -> None:
    found = lines_of("steady", "--seconds", "3")
    assert len(found["throughput"]["runs"]) == 10
    assert sum(found["throughput"]["runs"]) > 0
    assert {"submit to begin, p99", "hot table", "WAL a job", "commits a job", "memory of the worker"} <= set(found)


def _is_json(line: str) -> bool:
    return line.startswith("{")


# -- who wins, and what a gate says ----------------------------------------------------------------


@dataclass(frozen=True)
class Ran:
    busy_before: float = 0.0


@dataclass(frozen=True)
class Named:
    name: str


def test_a_peer_that_fails_drops_out_and_the_others_go_on() -> None:
    ran: list[tuple[str, int]] = []

    def run(who: Named, turn: int) -> Ran:
        if who.name == "peer" and turn == 1:
            raise Failed("it is gone\nits log")
        ran.append((who.name, turn))
        return Ran()

    taken = turns.taken([Named("goqueue"), Named("peer"), Named("other")], 3, Patience(0), run)
    assert ran == [
        *(("goqueue", 0), ("peer", 0), ("other", 0)),
        *(("goqueue", 1), ("other", 1)),
        *(("goqueue", 2), ("other", 2)),
    ]
    assert taken.failures == {"peer": "failed: it is gone"}


def test_without_goqueue_there_is_nothing_to_compare() -> None:
    def run(who: Named, turn: int) -> Ran:
        raise Failed("it is gone")

    with pytest.raises(Failed):
        turns.taken([Named("goqueue, clean")], 1, Patience(0), run)


def ratio_of(value: float, bench: str = "drain") -> Figure:
    return Figure(bench=bench, name="goqueue / peer", unit="×", runs=[value])


@pytest.mark.parametrize(
    "measured,met",
    [
        ([1.71], True),
        ([1.69, 1.71], True),
        ([1.69, 1.69], False),
    ],
)
def test_the_gate_fails_when_a_ratio_is_worse_twice_in_a_row(measured: list[float], met: bool) -> None:
    left = iter(measured)
    found = gate.judged(lambda: [ratio_of(next(left))], {"drain: goqueue / peer": 2.0})
    assert [figure.met for figure in found] == [met]
    assert not list(left)


def test_for_a_wait_the_gate_wants_less() -> None:
    bound = gate.bound("pickup", 1.0)
    assert (bound.met_by(0.5), bound.met_by(1.17), bound.met_by(1.18)) == (True, True, False)


def test_what_was_not_recorded_is_shown_and_not_judged() -> None:
    assert [figure.met for figure in gate.judged(lambda: [ratio_of(0.1)], {})] == [None]


def test_the_recorded_ratios_are_those_of_the_gate() -> None:
    recorded = msgspec.json.decode(gate.RECORDED.read_bytes(), type=gate.Recorded)
    benches = {name.split(":")[0] for name in recorded.ratios}
    assert benches == set(gate.BENCHES)
    assert all(value > 0 for value in recorded.ratios.values())


def test_what_cannot_run_is_a_row_that_says_why() -> None:
    output = io.StringIO()
    report.show(report.not_run("drain", {"graphile-worker": "needs node and npm"}), {}, output)
    assert "drain: graphile-worker  not run: needs node and npm" in output.getvalue()
    line = json.loads(output.getvalue().splitlines()[-1])
    assert (line["value"], line["note"]) == (None, "not run: needs node and npm")


# -- feeding ---------------------------------------------------------------------------------------


class Store:
    """Takes jobs, and notes them."""

    def __init__(self, *, takes_any_number: bool = False) -> None:
        self.taken: list[int] = []
        self.takes_any_number = takes_any_number

    async def enqueue_one(self, i: int) -> None:
        self.taken.append(i)

    async def enqueue_many(self, numbers: range) -> None:
        assert len(numbers) > 0
        assert self.takes_any_number or len(numbers) <= feeding.CHUNK
        self.taken += numbers


async def test_a_pace_sends_what_is_due_in_order_and_notes_when() -> None:
    store = Store()
    with stamps.made(2_000) as made:
        began = time.monotonic()
        await feeding.pace(store, made, range(500, 1_500), 5_000, asyncio.Event())
        elapsed_s = time.monotonic() - began
        assert store.taken == list(range(500, 1_500))
        assert elapsed_s >= 0.19
        assert made.first_unsent(500) == 1_500
        assert made.sent[499] == 0


async def test_a_pace_ends_when_told() -> None:
    store = Store()
    stop = asyncio.Event()
    stop.set()
    with stamps.made(10) as made:
        await feeding.pace(store, made, range(10), 1_000, stop)
    assert store.taken == []


@pytest.mark.parametrize("verb,callers", [("one", 1), ("callers", 4), ("bulk", 1)])
@pytest.mark.parametrize("takes_any_number", [True, False])
async def test_what_is_submitted_is_counted_once(verb: str, callers: int, takes_any_number: bool) -> None:
    store = Store(takes_any_number=takes_any_number)
    found = await submitting.submit(store, verb, range(2_500), callers)
    assert sorted(store.taken) == list(range(2_750))  # a tenth of them first, to warm up
    assert found["per_s"] > 0
    assert 0 <= found["p50_ms"] <= found["p999_ms"]


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
