"""Who is measured: how each is installed, filled and started, as its users do it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString, Protocol

from bench.processes import call
from bench.stamps import VARIABLE, Stamps

INSTALL_S = 60.0
OURS = "goqueue"


class Contender(Protocol):
    """One system with its configuration."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def config(self) -> str:
        """How it runs."""

    @property
    def is_limit(self) -> bool:
        """Whether it is no system, only what one could reach."""

    @property
    def share(self) -> float:
        """The share of a run's jobs that it gets: a slow one needs fewer for as long a run."""

    @property
    def unfinished(self) -> LiteralString:
        """The query that counts the jobs that are not finished."""

    @property
    def for_latency(self) -> Contender:
        """How it runs where a short wait is wanted, not a high rate."""

    def side(self, verb: str, url: str, *options: str) -> list[str]:
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
    name: str = OURS
    module: str = "goqueue_side"
    """In `bench.sides`: its side, and the application that its worker runs."""
    unfinished: LiteralString = "SELECT count(*) FROM goqueue.job"
    share: float = 1.0
    is_limit: bool = False

    @property
    def config(self) -> str:
        """How it runs."""
        text = f"goqueue worker, concurrency {self.concurrency}, prefetch {self.prefetch}, history kept, fences, beats"
        return ", ".join([text, *self.given])

    @property
    def given(self) -> list[str]:
        """The settings that are not the default."""
        return [f"{name}={value}" for name, value in self.settings.items()]

    @property
    def for_latency(self) -> GoQueueContender:
        """The same."""
        return self

    def side(self, verb: str, url: str, *options: str) -> list[str]:
        """See `Contender`."""
        return side_command(sys.executable, self.module, verb, url, *options)

    def workers(self, url: str, processes: int) -> list[list[str]]:  # noqa: ARG002  the environment says it
        """One supervisor, however many processes."""
        return [[*self.command, "worker", f"bench.sides.{self.module}:app"]]

    def environment(self, url: str, *, processes: int = 1, stamps: Stamps | None = None) -> dict[str, str]:
        """See `Contender`."""
        return {
            "GOQUEUE_URL": url,
            "GOQUEUE_WORKER_CONCURRENCY": str(self.concurrency),
            "GOQUEUE_WORKER_PREFETCH": str(self.prefetch),
            "GOQUEUE_WORKER_PROCESSES": str(processes),
            **self.settings,
            **stamped(stamps),
        }


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


def side_command(interpreter: str, module: str, verb: str, url: str, *options: str) -> list[str]:
    """The command line of a side, in the environment that has its packages."""
    return [interpreter, "-m", f"bench.sides.{module}", verb, url, *options]


def stamped(stamps: Stamps | None) -> dict[str, str]:
    """Where a side or a handler finds the stamps."""
    return {VARIABLE: str(stamps.path)} if stamps is not None else {}
