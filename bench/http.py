"""`http`: `POST /v1/jobs` on one server process, beside a bare ASGI application that gathers.

First a steady rate (open loop) for its latencies, then 32 connections that never rest (closed loop) for its rate.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec

from bench import contenders, processes, watching
from bench.contenders import GoQueueContender
from bench.database import Server
from bench.processes import Failed, Group
from bench.report import Figure, median_of

START_S = 60.0
MARGIN_S = 60.0
OPEN_CONNECTIONS = 64
CLOSED_CONNECTIONS = 32
TARGET_P99_MS = 10.0
TARGET_RATIO = 0.5


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
    full: Loaded
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


@dataclass(frozen=True)
class GoQueueServer:
    """`goqueue server`."""

    contender: GoQueueContender
    name: str = "goqueue"

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
    name: str = "bare app"
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
    """Alternate the servers. ``python`` is the peers' interpreter."""
    both: list[HttpServer] = [GoQueueServer(goqueue), *([BareServer(python)] if python else [])]
    runs: dict[str, list[Served]] = {one.name: [] for one in both}
    for _ in range(options.runs):
        for one in both:
            served = watching.on_quiet_machine(partial(serve, server, one, options), quiet_s=server.quiet_s)
            runs[one.name].append(served)
    figures = [figure for one in both for figure in _steady(one, runs[one.name], options)]
    bare = median_of([run.full.per_s for run in runs.get("bare app", [])])
    return figures + [_full(one, runs[one.name], bare if one.name == "goqueue" else None) for one in both]


def serve(server: Server, one: HttpServer, options: Options) -> Served:
    """One run in a database of its own."""
    port = _free_port()
    with server.database() as url:
        one.install(url)
        log = server.folder / f"{one.name.replace(' ', '-')}-http.log"
        environment = one.environment(url, port)
        with processes.running([one.command(port)], environment=environment, log=log) as groups:
            _wait_until_up(port, groups)
            _load("closed", port, options.warm_up_s, CLOSED_CONNECTIONS, options.per_s)
            busy = processes.wait_until_quiet(server.quiet_s)
            steady = _load("open", port, options.open_s, OPEN_CONNECTIONS, options.per_s)
            full = _load("closed", port, options.closed_s, CLOSED_CONNECTIONS, options.per_s)
    return Served(steady, full, busy)


def _load(loop: str, port: int, seconds: float, connections: int, per_s: float) -> Loaded:
    command = [sys.executable, "-m", "bench.load", loop, "--port", str(port), "--seconds", str(seconds)]
    command += ["--connections", str(connections), "--per-s", str(per_s)]
    printed = processes.call(command, environment={}, timeout_s=seconds + MARGIN_S)
    loaded = msgspec.convert(json.loads(printed), Loaded)
    if loaded.error or loaded.failed or not loaded.answers:
        raise Failed(f"{loop} loop: {loaded.error or f'{loaded.failed} answers were not 201'}")
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
        has_target = name == "p99" and one.name == "goqueue"
        figures.append(
            Figure(
                bench="http",
                name=f"{one.name} at {options.per_s:.0f}/s, {name}",
                unit="ms",
                runs=values,
                config=f"{options.open_s:.0f} s open loop, {OPEN_CONNECTIONS} connections; {one.config}",
                target=f"< {TARGET_P99_MS:.0f} ms" if has_target else "",
                met=(median_of(values) or 0) < TARGET_P99_MS if has_target else None,
                more=more,
                busy_before=[run.busy_before for run in runs],
            )
        )
    return figures


def _full(one: HttpServer, runs: list[Served], bare: float | None) -> Figure:
    full = [run.full for run in runs]
    rates = [run.per_s for run in full]
    ratio = (median_of(rates) or 0) / bare if bare else None
    return Figure(
        bench="http",
        name=f"{one.name}, {CLOSED_CONNECTIONS} connections",
        unit="requests/s",
        runs=rates,
        config=f"closed loop; {one.config}",
        peer="bare app" if ratio is not None else "",
        ratio=ratio,
        target=f"≥ {TARGET_RATIO} × bare app" if ratio is not None else "",
        met=ratio >= TARGET_RATIO if ratio is not None else None,
        more={
            "p50_ms": median_of([run.p50_ms for run in full]),
            "p99_ms": median_of([run.p99_ms for run in full]),
        },
        busy_before=[run.busy_before for run in runs],
    )
