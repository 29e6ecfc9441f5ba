"""Who is measured: how each is installed, filled and started, as its users do it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString, Protocol

from bench import peers
from bench.processes import call
from bench.stamps import VARIABLE, Stamps

INSTALL_S = 60.0


class Contender(Protocol):
    """One system with its configuration."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def config(self) -> str:
        """How it runs."""

    @property
    def table(self) -> LiteralString:
        """Whose rows are the jobs that are not finished."""

    def side(self, verb: str, url: str, *, count: int = 0, seed: int = 0) -> list[str]:
        """The command line of `bench.sides` for it."""

    def workers(self, url: str, processes: int) -> list[list[str]]:
        """The command lines of its workers."""

    def environment(self, url: str, *, processes: int = 1, stamps: Stamps | None = None) -> dict[str, str]:
        """What its processes find in the environment."""


@dataclass(frozen=True)
class GoQueueContender:
    """`goqueue worker`: a supervisor and its worker processes, history kept, fences, beats."""

    command: tuple[str, ...]
    concurrency: int
    prefetch: int
    settings: Mapping[str, str]
    """Environment variables beyond those: what is measured is then not the default, and ``config`` says so."""
    name: str = "goqueue"
    table: LiteralString = "goqueue.job"

    @property
    def config(self) -> str:
        """How it runs."""
        text = f"goqueue worker, concurrency {self.concurrency}, prefetch {self.prefetch}, history kept, fences, beats"
        return ", ".join([text, *self.given])

    @property
    def given(self) -> list[str]:
        """The settings that are not the default."""
        return [f"{name}={value}" for name, value in self.settings.items()]

    def side(self, verb: str, url: str, *, count: int = 0, seed: int = 0) -> list[str]:
        """See `Contender`."""
        return _side(sys.executable, "goqueue_side", verb, url, count, seed)

    def workers(self, url: str, processes: int) -> list[list[str]]:  # noqa: ARG002  the environment says it
        """One supervisor, however many processes."""
        return [[*self.command, "worker", "bench.sides.goqueue_side:app"]]

    def environment(self, url: str, *, processes: int = 1, stamps: Stamps | None = None) -> dict[str, str]:
        """See `Contender`."""
        return {
            "GOQUEUE_URL": url,
            "GOQUEUE_WORKER_CONCURRENCY": str(self.concurrency),
            "GOQUEUE_WORKER_PREFETCH": str(self.prefetch),
            "GOQUEUE_WORKER_PROCESSES": str(processes),
            **self.settings,
            **_stamped(stamps),
        }


@dataclass(frozen=True)
class PgQueuerContender:
    """PgQueuer, durable, one connection a worker."""

    python: Path
    batch: int
    name: str = "pgqueuer"
    table: LiteralString = "pgqueuer"

    @property
    def config(self) -> str:
        """How it runs."""
        found = peers.versions(self.python)
        return f"PgQueuer {found['pgqueuer']}, asyncpg {found['asyncpg']}, uvloop, batch_size {self.batch}, durable"

    def side(self, verb: str, url: str, *, count: int = 0, seed: int = 0) -> list[str]:
        """See `Contender`."""
        return _side(str(self.python), "pgqueuer_side", verb, url, count, seed)

    def workers(self, url: str, processes: int) -> list[list[str]]:
        """As many commands as processes."""
        return [self.side("work", url, count=self.batch) for _ in range(processes)]

    def environment(self, url: str, *, processes: int = 1, stamps: Stamps | None = None) -> dict[str, str]:  # noqa: ARG002
        """See `Contender`."""
        return _stamped(stamps)


def install(contender: Contender, url: str) -> None:
    """Bring its schema into an empty database."""
    call(contender.side("install", url), environment=contender.environment(url), timeout_s=INSTALL_S)


def find_goqueue(named: str | None) -> tuple[str, ...]:
    """The command that users type: the one that was named, or the one beside this interpreter."""
    if named:
        return (named,)
    beside = Path(sys.executable).with_name("goqueue")
    found = str(beside) if beside.exists() else shutil.which("goqueue")
    if found is None:
        raise SystemExit("bench: there is no `goqueue` command beside this Python; `make setup`, or --goqueue PATH")
    return (found,)


def _side(interpreter: str, module: str, verb: str, url: str, count: int, seed: int) -> list[str]:
    return [interpreter, "-m", f"bench.sides.{module}", verb, url, "--count", str(count), "--seed", str(seed)]


def _stamped(stamps: Stamps | None) -> dict[str, str]:
    return {VARIABLE: str(stamps.path)} if stamps is not None else {}


def in_turns(contenders: Sequence[Contender], runs: int) -> list[Contender]:
    """A B A B …: what else the machine does then falls on all alike."""
    return [contender for _ in range(runs) for contender in contenders]
