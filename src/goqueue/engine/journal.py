"""The journal page: memory that a worker process shares with its supervisor, and that outlives the process.

It says when the worker's loop was last alive, until when its handlers may be busy, and which jobs have started. When
the process dies, the page is what is left of it: it tells the jobs that ran from those that only waited
(docs/why/crashes.md). Writing it is a few stores into memory: no system call, no lock.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
import tempfile
import time
from collections import deque
from enum import IntEnum
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from goqueue.model.lease import Lease
    from goqueue.settings import WorkerSettings

FD_VARIABLE: Final = "GOQUEUE_JOURNAL_FD"
HEADER_BYTES: Final = 64
SLOT_BYTES: Final = 48
"""A fence (int64), an id (36 characters) and a `Began` (one byte); aligned to eight bytes."""
ID_BYTES: Final = 36
ALIVE_S: Final = 0.5
"""The loop says that it is alive at least this often."""
RAISE_S: Final = 0.25
"""``busy_until`` is raised by this much more than needed, so that it need not be raised for each job."""

_SLOT: Final = struct.Struct(f"@q{ID_BYTES}sB")
_ALIVE_AT, _BUSY_UNTIL = 0, 1
_HEADER_DOUBLES: Final = HEADER_BYTES // 8


class Began(IntEnum):
    """How an attempt began, as far as that tells what the death of the worker means for it."""

    HERE = 0
    """In the worker itself: perhaps it is what ended it."""
    APART = 1
    """In a child of the worker, which ends with it: not this job's doing, but its attempt is over."""
    APART_LAST = 2
    """As `APART`, and it was the last attempt."""


def slots_for(settings: WorkerSettings) -> int:
    """Return how many slots a worker needs so that none is used again before its job's outcome was settled.

    A freed slot waits its turn behind all others that are free, and outcomes that wait are bounded.
    """
    held = 2 * settings.concurrency + settings.prefetch_jobs + settings.suspects
    return held + settings.outcomes_waiting_max + 1


class JobJournal(Protocol):
    """What the runner needs of a journal."""

    def start(self, lease: Lease, /, *, apart: bool = False) -> int:
        """Note that a handler starts, ``apart``: in a process of its own; return the slot for `end`."""
        ...

    @property
    def end(self) -> Callable[[int], None]:
        """Note that a handler's outcome is decided: its slot may be used again, after all other free ones."""
        ...


class NullJournal:
    """For a worker without a supervisor: nobody would read it."""

    def start(self, lease: Lease, /, *, apart: bool = False) -> int:  # noqa: ARG002
        """Do nothing."""
        return 0

    @property
    def end(self) -> Callable[[int], None]:
        """Do nothing."""
        return _ignore

    def alive(self, busy_until: float) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def _ignore(slot: int) -> None:
    pass


class Page:
    """The memory itself, and how the supervisor reads it. ``fd`` is for the worker to inherit."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.memory = mmap.mmap(fd, os.fstat(fd).st_size)
        self.header = memoryview(self.memory)[:HEADER_BYTES].cast("d")
        self.slots = (len(self.memory) - HEADER_BYTES) // SLOT_BYTES

    @classmethod
    def create(cls, slots: int) -> Page:
        """Make an empty page: unlinked, so that it goes with the last process that has it."""
        size = HEADER_BYTES + slots * SLOT_BYTES
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("goqueue-journal")
        else:
            with tempfile.TemporaryFile() as file:
                fd = os.dup(file.fileno())
        try:
            os.ftruncate(fd, size)
            return cls(fd)
        except BaseException:
            os.close(fd)
            raise

    @property
    def alive_at(self) -> float:
        """When the worker's loop was last seen alive (monotonic); 0: not yet; infinity: it has ended."""
        return self.header[_ALIVE_AT]

    @property
    def busy_until(self) -> float:
        """Until when handlers may keep the loop from turning (monotonic); infinity: one without a timeout runs."""
        return self.header[_BUSY_UNTIL]

    def started(self) -> dict[tuple[str, int], Began]:
        """Tell (id, fence) of the attempts that have started, and how: all that run, and many that have ended since.

        The store knows which of them are still undecided.
        """
        found = (_SLOT.unpack_from(self.memory, HEADER_BYTES + n * SLOT_BYTES) for n in range(self.slots))
        return {
            (id.rstrip(b"\0").decode(errors="replace"), fence): Began(min(began, Began.APART_LAST))
            for fence, id, began in found
            if fence
        }

    def close(self) -> None:
        """Give the memory back. Idempotent."""
        if self.fd >= 0:
            self.header.release()
            self.memory.close()
            os.close(self.fd)
            self.fd = -1


class Journal:
    """The worker's end of a page. `start` and `end` are called for each job, on the loop's thread."""

    def __init__(self, page: Page, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._page = page
        self._memory = page.memory
        self._header = page.header
        self._now_s = now_s
        self._free = deque(HEADER_BYTES + n * SLOT_BYTES for n in range(page.slots))
        self._last = self._free[-1]
        self._busy_until = 0.0
        self.end = self._free.append
        """Note that a job's outcome is decided. Its slot is used again after all others that are free now; what is
        written there stays until then."""

    @classmethod
    def inherited(cls) -> Journal | NullJournal:
        """Take over the page that the supervisor has made for this process, if there is one."""
        fd = os.environ.pop(FD_VARIABLE, "")
        if not fd:
            return NullJournal()
        os.set_inheritable(int(fd), False)
        return cls(Page(int(fd)))

    def start(self, lease: Lease, /, *, apart: bool = False) -> int:
        """Note that the handler of this lease starts, ``apart``: in a child; return the slot for `end`."""
        try:
            slot = self._free.popleft()
        except IndexError:  # more than can be: rather a note too few than a worker that stops
            slot = self._last
        if apart:  # it cannot keep this loop from turning
            began = Began.APART if lease.attempt < lease.max_attempts else Began.APART_LAST
            _SLOT.pack_into(self._memory, slot, lease.fence, lease.id.encode(), began)
            return slot
        _SLOT.pack_into(self._memory, slot, lease.fence, lease.id.encode(), 0)
        timeout_s = lease.timeout_s
        if self._busy_until != math.inf:
            until = math.inf if timeout_s is None else self._now_s() + timeout_s
            if until > self._busy_until:
                self._busy_until = self._header[_BUSY_UNTIL] = until + RAISE_S
        return slot

    def alive(self, busy_until: float) -> None:
        """Say that the loop turns, and until when its handlers, as they are now, may keep it from doing so."""
        self._header[_ALIVE_AT] = self._now_s()
        self._busy_until = self._header[_BUSY_UNTIL] = busy_until

    def close(self) -> None:
        """Say that the loop ends: from here on it need not be seen alive."""
        self._header[_ALIVE_AT] = math.inf
