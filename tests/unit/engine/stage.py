"""A stage for the tests of the supervisor: it hears what the workers report, and stands for the store."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from goqueue.engine.supervisor import Supervisor
from goqueue.model.errors import StoreUnavailable
from goqueue.model.job import JobRef
from goqueue.model.lease import Beat, Beaten, Held
from goqueue.model.outcome import Answer, Settlement
from goqueue.settings import WorkerSettings
from tests.unit.engine.child_target import Payload
from tests.unit.engine.faults import DEADLINE_S

TARGET = "tests.unit.engine.child_target:target"


class Stage:
    """Hears what the workers report and what the supervisor tells the store."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reports: list[list[str]] = []
        self.beats: list[tuple[float, Beat]] = []
        self.settled: list[Settlement] = []
        self.down = False
        self.connections = 0
        self.changed = asyncio.Event()
        self.looks: Callable[[], object] = lambda: None

    async def extend(self, beat: Beat) -> Beaten:
        if self.down:
            raise StoreUnavailable("down")
        self.beats.append((time.monotonic(), beat))
        self.changed.set()
        return Beaten(strays=tuple(self.undecided(str(beat.worker.pid))))

    async def settle(self, outcomes: Sequence[Settlement]) -> list[Answer]:
        if self.down:
            raise StoreUnavailable("down")
        self.settled += outcomes
        self.changed.set()
        return [Answer.APPLIED for _ in outcomes]

    def undecided(self, pid: str) -> list[Held]:
        """What a store would still have as running under the worker with this process, in the order of the claims."""
        decided = {(id, fence) for _, _, id, fence in self.told("decided", pid)}
        decided |= {(one.ref.id, str(one.fence)) for one in self.settled}
        claimed = [(id, fence) for _, _, id, fence in self.told("claimed", pid)]
        return [
            Held(JobRef("default", "default", id), int(fence)) for id, fence in claimed if (id, fence) not in decided
        ]

    async def listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while line := await reader.readline():
                self.reports.append(line.decode().split())
                self.changed.set()
        finally:
            writer.close()
            await writer.wait_closed()
            self.connections -= 1
            self.changed.set()

    async def open(self) -> None:
        self.server = await asyncio.start_unix_server(self.listen, self.path)

    async def close(self) -> None:
        """Wait until all workers have gone."""
        await self.until(lambda: self.connections == 0)
        self.server.close()
        await self.server.wait_closed()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self.looks()
                self.changed.clear()
                with contextlib.suppress(TimeoutError):  # not all that is waited for comes through here
                    async with asyncio.timeout(0.1):
                        await self.changed.wait()

    def told(self, *words: str) -> list[list[str]]:
        return [report for report in self.reports if all(word in report for word in words)]


@asynccontextmanager
async def staged(
    tmp_path: Path, settings: WorkerSettings, job: str = "", seconds: float = 0.0, others: int = 0
) -> AsyncIterator[tuple[Stage, Supervisor, asyncio.Task[None]]]:
    stage = Stage(tmp_path / "reports")
    await stage.open()
    payload = msgspec.json.encode(Payload(str(stage.path), settings, job, seconds, others)).decode()
    supervisor = Supervisor(TARGET, payload, settings, extend=stage.extend, settle=stage.settle)
    running = asyncio.create_task(supervisor.run())
    try:
        async with asyncio.timeout(60):
            yield stage, supervisor, running
    finally:
        supervisor.stop(now=True)
        await asyncio.gather(running, return_exceptions=True)
        await stage.close()
