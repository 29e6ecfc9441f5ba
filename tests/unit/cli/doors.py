"""The command line over a memory store, and a worker by hand: all of it but the database, in this process."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from goqueue import configuration as configuration_module
from goqueue.cli.main import run
from goqueue.client._sync.client import Client
from goqueue.model.job import ErrorInfo, NewJob
from goqueue.model.outcome import Dead
from goqueue.settings import StoreSettings
from goqueue.store.memory.core import Memory
from goqueue.store.memory.store import MemoryStore
from goqueue.store.memory.sync import SyncMemoryStore
from goqueue.store.port import Store
from goqueue.tasks.app import GoQueue
from goqueue.wiring import _Doors
from tests.unit.client.hand import Hand


class MemoryDoors(_Doors):
    """Everything that is opened is one memory store."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.make: Callable[[], Store] = lambda: MemoryStore(self.memory)

    def resolve(self, url: str | None) -> str:
        """Where: wherever."""
        return url or "memory://"

    def client(self, url: str | None, app: GoQueue | None = None) -> Client:  # type: ignore[override]  # its base
        """Return a client."""
        return Client(app, connect=lambda: SyncMemoryStore(self.memory))

    def store(self, url: str | None, settings: StoreSettings | None = None) -> Store:
        """Return a store."""
        return self.make()


class Desk:
    """Runs commands, and jobs."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture
        self.doors = MemoryDoors()
        self.client = self.doors.client(None)
        self.hand = Hand(self.doors.memory)
        self.err = ""

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """Run, check the exit code, return what was printed; the rest is in ``err``."""
        configuration_module.configuration.cache_clear()
        self._capture.readouterr()
        got = run(self.doors, arguments)
        out, self.err = self._capture.readouterr()
        assert got == code, f"{arguments}: exit {got}\n{out}\n{self.err}"
        return out

    def kill(
        self, *jobs: NewJob[object], error: str = "builtins.ValueError", message: str = "no", reason: str = "attempts"
    ) -> list[str]:
        """Enqueue jobs and let them end dead; return their ids."""
        ids = []
        for job in jobs:
            ids.append(self.client.enqueue(job).id)
            self.hand.do(Dead(ErrorInfo(error, message, f"Traceback …\n{error}: {message}"), reason))
        return ids

    def states(self) -> dict[str, str]:
        """Return the state of every job by id."""
        return {job.id: str(job.known.state) for job in self.client.iterate() if job.known is not None}
