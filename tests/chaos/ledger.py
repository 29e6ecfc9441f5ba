"""The ledger: what the harness and the handlers saw, in an append-only file outside the store.

One event is one line, written by one `write` to a descriptor opened with O_APPEND: lines of many processes never mix,
and what a process wrote before it was killed is there. Stamps are monotonic, the same clock in all processes.

Imports nothing of goqueue: the handlers use it, also under older releases.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "GOQUEUE_TEST_LEDGER"


@dataclass(frozen=True)
class Entry:
    """One line. ``at_s`` is monotonic; ``fields`` depend on ``event``.

    ``sent``, ``acknowledged``, ``refused``, ``failed``: an enqueue, by id (``failed`` is one whose answer never came);
    ``start``, ``end``: a handler, by id, fence and attempt; ``effect``: what it did to the world.
    """

    at_s: float
    pid: int
    event: str
    fields: dict[str, object]

    @property
    def id(self) -> str:
        return str(self.fields.get("id", ""))

    @property
    def fence(self) -> int:
        value = self.fields.get("fence", -1)
        assert isinstance(value, int)
        return value


def write(event: str, path: Path | str | None = None, **fields: object) -> None:
    """Append one event. ``path``: else the file that the environment names."""
    line = json.dumps({"at_s": time.monotonic(), "pid": os.getpid(), "event": event, **fields}) + "\n"
    # Opened each time: nothing to inherit, nothing to flush, and nothing lost by a kill.
    descriptor = os.open(path or os.environ[VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        written = os.write(descriptor, line.encode())
        assert written == len(line.encode()), "the disk is full"
    finally:
        os.close(descriptor)


def parse(lines: Iterable[str]) -> Iterator[Entry]:
    for line in lines:
        fields = json.loads(line)
        yield Entry(fields.pop("at_s"), fields.pop("pid"), fields.pop("event"), fields)


class Ledger:
    """The harness's side: writes, and reads what has been added since it last looked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._read_to = 0
        self._entries: list[Entry] = []

    def write(self, event: str, **fields: object) -> None:
        write(event, self.path, **fields)

    def entries(self) -> list[Entry]:
        """All whole lines so far."""
        with self._lock, contextlib.suppress(FileNotFoundError):
            with self.path.open("rb") as file:
                file.seek(self._read_to)
                whole, newline, _ = file.read().rpartition(b"\n")
            self._read_to += len(whole) + len(newline)
            self._entries += parse(whole.decode().splitlines())
        return list(self._entries)

    def find(self, event: str, **fields: object) -> list[Entry]:
        """Those with this event and these fields."""
        return [
            entry
            for entry in self.entries()
            if entry.event == event and all(entry.fields.get(name) == value for name, value in fields.items())
        ]
