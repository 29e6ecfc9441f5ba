"""`http`: `POST /v1/jobs` on one server process, beside a bare ASGI application that gathers.

First a steady rate (open loop) for its latencies, then connections that never rest (closed loop), few and many, for its
rate; last `POST /v1/jobs/batch`, which the bare application has not.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from bench import contenders, processes, report, turns, watching
from bench.contenders import OURS, GoQueueContender
from bench.database import Server
from bench.processes import Failed, Group
from bench.report import Figure, Target, median_of
from bench.turns import Turns

BARE = "bare app"
START_S = 60.0
MARGIN_S = 60.0
OPEN_CONNECTIONS = 64
WARM_UP_CONNECTIONS = 32
CONNECTIONS = (16, 32, 64, 256)
BATCH = 100
BATCH_CONNECTIONS = 16
TARGETED = 32
"""The number of connections for which there is a target."""
TARGET_P99 = Target(most=10.0)
TARGET_RATIO = Target(least=0.5)


@dataclass(frozen=True)
class Options:
    """What one call measures."""

    runs: int
    per_s: float
    open_s: float
    closed_s: float
    warm_up_s: float


class Loaded(msgspec.Struct):
    """What `bench.load` prints."""

    per_s: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    late_p99_ms: float
    answers: int
    failed: int
    error: str


@dataclass(frozen=True)
class Served:
    """One run of one server."""

    steady: Loaded
    full: Mapping[int, Loaded]
    """By the number of connections."""
    batch: Loaded | None
    busy_before: float


class HttpServer(Protocol):
    """A server under measurement."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def config(self) -> str:
        """How it runs."""

    def install(self, url: str) -> None:
        """Prepare an empty database."""

    def command(self, port: int) -> list[str]:
        """Its command line."""

    def environment(self, url: str, port: int) -> dict[str, str]:
        """What it finds in the environment."""

    @property
    def has_batches(self) -> bool:
        """Whether there is `POST /v1/jobs/batch`."""


@dataclass(frozen=True)
class GoQueueServer:
    """`goqueue server`."""

    contender: GoQueueContender
    name: str = OURS
    has_batches: bool = True

    @property
    def config(self) -> str:
        """How it runs."""
        return ", ".join(["goqueue server, one process", *self.contender.given])

    def install(self, url: str) -> None:
        """Migrate."""
        contenders.install(self.contender, url)

    def command(self, port: int) -> list[str]:  # noqa: ARG002  the environment says it
        """See `HttpServer`."""
        return [*self.contender.command, "server"]

    def environment(self, url: str, port: int) -> dict[str, str]:
        """See `HttpServer`."""
        return {"GOQUEUE_URL": url, "GOQUEUE_SERVER_PORT": str(port), **self.contender.settings}


@dataclass(frozen=True)
class BareServer:
    """`bench/bare_app.py` under uvicorn."""

    python: Path
    name: str = BARE
    has_batches: bool = False
    config: str = "bare ASGI, uvicorn, httptools, uvloop, asyncpg, gathered INSERT"

    def install(self, url: str) -> None:
        """Nothing: it makes its table at its start."""

    def command(self, port: int) -> list[str]:
        """See `HttpServer`."""
        options = ["--port", str(port), "--loop", "uvloop", "--http", "httptools", "--no-access-log"]
        return [str(self.python), "-m", "uvicorn", "bench.bare_app:app", *options, "--log-level", "warning"]

    def environment(self, url: str, port: int) -> dict[str, str]:  # noqa: ARG002
        """See `HttpServer`."""
        return {"BENCH_URL": url}


def measure(server: Server, goqueue: GoQueueContender, python: Path | None, options: Options) -> list[Figure]:
    """Let the servers take turns. ``python`` is the interpreter of the limits."""
    both: list[HttpServer] = [GoQueueServer(goqueue), *([BareServer(python)] if python else [])]
    taken = turns.taken(both, options.runs, server.patience, lambda one, _: serve(server, one, options))
    ran = [one for one in both if one.name in taken.runs]
    figures = [figure for one in ran for figure in _steady(one, taken.runs[one.name], options)]
    for connections in CONNECTIONS:
        figures += [_full(one, taken.runs[one.name], connections) for one in ran]
        figures += _ratio(taken, connections)
    slowest = taken.values(OURS, lambda run: run.full[TARGETED].p99_ms)
    name = f"{OURS}, {TARGETED} connections, p99"
    figures.append(Figure(bench="http", name=name, unit="ms", runs=slowest, target=TARGET_P99))
    return figures + [_batch(one, taken.runs[one.name]) for one in ran if one.has_batches]


def serve(server: Server, one: HttpServer, options: Options) -> Served:
    """One run in a database of its own."""
    with server.database() as url, up(server, one, url) as (port, _):
        _load("closed", port, options.warm_up_s, WARM_UP_CONNECTIONS)
        busy = server.patience.until_quiet()
        steady = _load("open", port, options.open_s, OPEN_CONNECTIONS, "--per-s", str(options.per_s))
        full = {count: _load("closed", port, options.closed_s, count) for count in CONNECTIONS}
        batch = ("--batch", str(BATCH))
        batched = _load("closed", port, options.closed_s, BATCH_CONNECTIONS, *batch) if one.has_batches else None
    return Served(steady, full, batched, busy)


@contextmanager
def up(server: Server, one: HttpServer, url: str) -> Iterator[tuple[int, list[Group]]]:
    """The server on an empty database: its port and its processes, once it accepts connections."""
    port = _free_port()
    one.install(url)
    log = server.folder / f"{one.name.replace(' ', '-')}-http.log"
    with processes.running([one.command(port)], environment=one.environment(url, port), log=log) as groups:
        _wait_until_up(port, groups)
        yield port, groups


def load_command(loop: str, port: int, seconds: float, connections: int, *more: str) -> list[str]:
    """The command line of the load generator."""
    command = [sys.executable, "-m", "bench.load", loop, "--port", str(port), "--seconds", str(seconds)]
    return [*command, "--connections", str(connections), *more]


def _load(loop: str, port: int, seconds: float, connections: int, *more: str) -> Loaded:
    command = load_command(loop, port, seconds, connections, *more)
    printed = processes.call(command, environment={}, timeout_s=seconds + MARGIN_S)
    loaded = msgspec.convert(json.loads(printed), Loaded)
    if loaded.error or loaded.failed or not loaded.answers:
        raise Failed(f"{loop} loop: {loaded.error or f'{loaded.failed} answers were not as they should be'}")
    return loaded


def _wait_until_up(port: int, groups: list[Group]) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            watching.check(groups, deadline, f"no server on port {port}")
            time.sleep(0.05)
        else:
            return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _steady(one: HttpServer, runs: list[Served], options: Options) -> list[Figure]:
    steady = [run.steady for run in runs]
    more = {
        "per_s": median_of([run.per_s for run in steady]),
        "max_ms": max(run.max_ms for run in steady),
        "generator_late_p99_ms": median_of([run.late_p99_ms for run in steady]),
    }
    figures = []
    for name, values in (
        ("p50", [run.p50_ms for run in steady]),
        ("p99", [run.p99_ms for run in steady]),
        ("p99.9", [run.p999_ms for run in steady]),
    ):
        has_target = name == "p99" and one.name == OURS
        figures.append(
            Figure(
                bench="http",
                name=f"{one.name} at {options.per_s:.0f}/s, {name}",
                unit="ms",
                runs=values,
                config=f"{options.open_s:.0f} s open loop, {OPEN_CONNECTIONS} connections; {one.config}",
                target=TARGET_P99 if has_target else None,
                more=more,
                busy_before=[run.busy_before for run in runs],
            )
        )
    return figures


def _full(one: HttpServer, runs: list[Served], connections: int) -> Figure:
    full = [run.full[connections] for run in runs]
    return Figure(
        bench="http",
        name=f"{one.name}, {connections} connections",
        unit="requests/s",
        runs=[run.per_s for run in full],
        config=f"closed loop; {one.config}",
        more=_latencies(full),
        busy_before=[run.busy_before for run in runs],
    )


def _ratio(taken: Turns[Served], connections: int) -> list[Figure]:
    ours, bare = (taken.values(name, lambda run: run.full[connections].per_s) for name in (OURS, BARE))
    name = f"{OURS} / {BARE}, {connections} connections"
    return report.ratio("http", name, ours, bare, TARGET_RATIO if connections == TARGETED else None)


def _batch(one: HttpServer, runs: list[Served]) -> Figure:
    batched = [run.batch for run in runs if run.batch is not None]
    return Figure(
        bench="http",
        name=f"{one.name}, batches of {BATCH}, {BATCH_CONNECTIONS} connections",
        unit="jobs/s",
        runs=[run.per_s * BATCH for run in batched],
        config=f"closed loop; {one.config}",
        more=_latencies(batched),
        busy_before=[run.busy_before for run in runs],
    )


def _latencies(runs: list[Loaded]) -> dict[str, float | None]:
    return {
        "p50_ms": median_of([run.p50_ms for run in runs]),
        "p99_ms": median_of([run.p99_ms for run in runs]),
        "p999_ms": median_of([run.p999_ms for run in runs]),
    }
