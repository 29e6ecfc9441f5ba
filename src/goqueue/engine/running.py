"""`Running`: one attempt between its start and its outcome."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final, TypeAlias

from goqueue.engine.completion import rolled_back
from goqueue.engine.failure import is_ours
from goqueue.engine.verdict import Stop, verdict
from goqueue.model import limits
from goqueue.model.outcome import NewLog, Note

if TYPE_CHECKING:
    from goqueue.engine.batches import BatchCall
    from goqueue.engine.executors.process import HandlerProcess
    from goqueue.engine.executors.threads import ThreadCall
    from goqueue.model.job import LogLevel
    from goqueue.model.lease import Held, Lease
    from goqueue.model.outcome import Outcome
    from goqueue.tasks.app import AnyTask

FRAMES_MAX: Final = 40
NO_SLOT: Final = -1

Logged: TypeAlias = "tuple[int, float, LogLevel, str]"
"""A line: its number, when (monotonic), its level, its text."""


_LOGS: Final = threading.Lock()
"""Held for moments, while lines of any attempt go in or out: handlers log from threads, beats read on the loop."""


class Running:
    """What is known of one attempt while it runs."""

    __slots__ = (
        "alone",
        "call",
        "child",
        "claimed_at",
        "completing",
        "decided",
        "gave_slot",
        "job",
        "lease",
        "logged",
        "logs",
        "progress",
        "slot",
        "stop",
        "task",
        "timer",
    )

    def __init__(self, lease: Lease, task: AnyTask, claimed_at: float) -> None:
        self.lease = lease
        self.task = task
        self.claimed_at = claimed_at
        self.stop = Stop.NONE
        self.decided = False
        self.gave_slot = False
        self.alone = False
        """It has crashed before, and has a process to itself."""
        self.completing = False
        """Its handler has completed the job in a transaction of its own, committed or not: the store knows."""
        self.slot = NO_SLOT
        """Its place in the journal, once its handler has started."""
        self.progress: bytes | None = None
        self.logs: deque[Logged] | None = None
        """What its handler has logged and no beat has brought to the store; None: it has logged nothing."""
        self.logged = 0
        """How many lines that were."""
        self.timer: asyncio.TimerHandle | None = None
        self.job: asyncio.Future[None] | None = None
        """Done when nothing works on it any more; a task, unless it is one of a batch."""
        self.call: ThreadCall | BatchCall | None = None
        self.child: HandlerProcess | None = None

    def judge(self, returned: object, raised: BaseException | None, random01: float) -> Outcome:
        """Tell what becomes of it. After ``ctx.complete_in`` only a rollback is left to be told: the store knows."""
        if self.completing:
            returned, raised = None, raised or rolled_back(self.lease)
        return verdict(
            returned,
            raised,
            lease=self.lease,
            task=self.task,
            policy=self.task.retry,
            stop=self.stop,
            random01=random01,
            since_claim_s=time.monotonic() - self.claimed_at,
        )

    def log(self, level: LogLevel, message: str) -> None:
        """Take a line. From any thread."""
        with _LOGS:
            self._add(level, message)

    def _add(self, level: LogLevel, message: str) -> None:
        if self.logs is None:
            self.logs = deque(maxlen=limits.LOGS_KEPT_MAX)
        self.logged += 1
        self.logs.append((self.logged, time.monotonic(), level, message))

    def news(self, lines_max: int) -> tuple[NewLog, ...]:
        """Return the oldest of the lines that are new."""
        now = time.monotonic()
        with _LOGS:
            lines = list(self.logs or ())[:lines_max]
        return tuple(NewLog(n, level, message, now - at) for n, at, level, message in lines)

    def sent(self, held: Held) -> None:
        """Forget what a beat has brought to the store."""
        if held.progress is not None and self.progress is held.progress:
            self.progress = None
        if held.logs and self.logs is not None:
            with _LOGS:
                while self.logs and self.logs[0][0] <= held.logs[-1].n:
                    self.logs.popleft()

    def note(self) -> Note | None:
        """Return what no beat has brought to the store."""
        if self.progress is None and self.logs is None:
            return None
        logs = self.news(limits.LOGS_KEPT_MAX) if self.logs else ()
        return Note(self.progress, logs) if logs or self.progress is not None else None

    def mark_completing(self, completing: bool) -> bool:
        """Note whether the handler has completed its job by itself; return what was noted before."""
        before, self.completing = self.completing, completing
        return before

    def stack(self) -> str:
        """Return where its handler is now; "" if that cannot be seen."""
        return self.call.stack() if self.call is not None else stack_of(self.job)


def stack_of(job: asyncio.Future[None] | None) -> str:
    """Return where the coroutine of a task is now; "" if that cannot be seen."""
    if not isinstance(job, asyncio.Task):
        return ""
    frames: list[str] = []
    awaited: object = job.get_coro()
    while awaited is not None and len(frames) < FRAMES_MAX:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is None:
            break
        if frames or not is_ours(frame.f_code.co_filename):  # what is outside of the handler says nothing
            frames.append(f'  File "{frame.f_code.co_filename}", line {frame.f_lineno}, in {frame.f_code.co_name}\n')
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return "".join(frames)
