"""Workers that are started anew when a file changes, for development: `manage.py goqueue_worker --reload`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from goqueue.cli.dev import watching
from goqueue.model.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from goqueue.cli.processes import Stopping
    from goqueue.engine.supervisor import Supervisor

GRACE_S: Final = 5.0
"""A reload waits this long at most for handlers; then their jobs are handed back."""

log = structlog.get_logger("goqueue.cli")


def check() -> None:
    """Raise `ConfigurationError` if files cannot be watched here."""
    if not watching.is_available():
        raise ConfigurationError("--reload needs the package watchfiles: pip install 'goqueue[dev]'")


class Reloading:
    """Runs supervisors, and new ones after each change under ``folder``, until ``stopping`` says to stop."""

    def __init__(self, make: Callable[[], list[Supervisor]], folder: Path, stopping: Stopping) -> None:
        self._make = make
        self._folder = folder
        self._stopping = stopping
        self._changed = asyncio.Event()
        self._running: list[Supervisor] = []

    async def run(self) -> None:
        """Run until told to stop. Workers that cannot start wait for the next change."""
        self._stopping.on_stop(self._stop)
        watching_files = asyncio.create_task(self._watch())
        try:
            while not self._stopping.wanted.is_set():
                self._changed.clear()
                self._running = self._make()
                ended = await asyncio.gather(*(one.run() for one in self._running), return_exceptions=True)
                self._running = []
                for error in ended:
                    if isinstance(error, BaseException) and not isinstance(error, ConfigurationError):
                        raise error
                if any(ended):
                    log.error("wait", reason="the worker could not start (see above): change a file to try again")
                await self._next()
        finally:
            watching_files.cancel()
            await asyncio.wait([watching_files])

    async def _next(self) -> None:
        """Wait for a change, or for the wish to stop."""
        waits = [asyncio.create_task(event.wait()) for event in (self._changed, self._stopping.wanted)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    async def _watch(self) -> None:
        async for paths in watching.changes(self._folder, self._stopping.wanted):
            log.info("reload", changed=", ".join(path.name for path in paths[:3]) + (" …" if len(paths) > 3 else ""))
            self._changed.set()
            self._stop()

    def _stop(self) -> None:
        for supervisor in self._running:
            supervisor.stop()
