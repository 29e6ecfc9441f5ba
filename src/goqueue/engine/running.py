"""`Running`: one attempt between its start and its outcome."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from goqueue.engine.failure import is_ours
from goqueue.engine.verdict import Stop

if TYPE_CHECKING:
    from goqueue.engine.batches import BatchCall
    from goqueue.engine.executors.process import HandlerProcess
    from goqueue.engine.executors.threads import ThreadCall
    from goqueue.model.lease import Lease
    from goqueue.tasks.app import AnyTask

FRAMES_MAX: Final = 40
NO_SLOT: Final = -1


class Running:
    """What is known of one attempt while it runs."""

    __slots__ = (
        "alone",
        "call",
        "child",
        "claimed_at",
        "decided",
        "gave_slot",
        "job",
        "lease",
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
        self.slot = NO_SLOT
        """Its place in the journal, once its handler has started."""
        self.progress: bytes | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.job: asyncio.Future[None] | None = None
        """Done when nothing works on it any more; a task, unless it is one of a batch."""
        self.call: ThreadCall | BatchCall | None = None
        self.child: HandlerProcess | None = None

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
