"""The burials of a supervisor, which go on beside the processes that have taken the places of the dead."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from goqueue.engine.burial import WORKER_DIED
from goqueue.engine.ending import end
from goqueue.model.state import JobState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from goqueue.engine.burial import Burial
    from goqueue.model.job import JobRecord

    Get = Callable[[str, Sequence[str]], Awaitable[list[JobRecord | None]]]

AT_ONCE_MAX: Final = 8
"""So many are under way at the same time; the others wait for their turn."""
WAITING_MAX: Final = 100
"""From so many on, under way or waiting, no further process is started: each may leave another to be buried."""
END_S: Final = 10.0
"""When the supervisor stops they have this long, as the last outcomes of a worker have. Then the sweep has the rest."""
NAMED_MAX: Final = 10
"""Jobs that the line of a burial names."""
LOOKED_UP_MAX: Final = 100
"""Jobs of one burial whose fate is looked up."""
LOOK_UP_PIECE: Final = 20
LOOK_UP_S: Final = 10.0

log = structlog.get_logger("goqueue.supervisor")


class Burials:
    """Performs burials in tasks of its own. ``get`` looks jobs up, to tell of them; without it only ids are told."""

    def __init__(self, get: Get | None = None) -> None:
        self._get = get
        self._slots = asyncio.Semaphore(AT_ONCE_MAX)
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, burial: Burial) -> None:
        """Bury, and tell what came of it."""
        task = asyncio.create_task(self._bury(burial))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def room(self) -> bool:
        """Wait until there is room for one more."""
        while len(self._tasks) >= WAITING_MAX:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        return True

    async def close(self, within_s: float | None = None) -> None:
        """Wait for those that are under way, but no longer than that (`END_S`); end the others. Idempotent."""
        try:
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=END_S if within_s is None else within_s)
        finally:
            await end(list(self._tasks))

    async def _bury(self, burial: Burial) -> None:
        done = False
        try:
            async with self._slots:
                await burial.perform()
            done = True
        finally:
            if not done:
                log.error(
                    "bury", complete=False, **_told(burial, {}), do="the sweep counts a crash for all that is left"
                )
        records = await self._look_up(burial)
        log.warning("bury", complete=True, **_told(burial, records))
        for id in (*burial.crashed, *burial.spent):
            if id in records:
                _tell_dead(records[id], burial)

    async def _look_up(self, burial: Burial) -> dict[str, JobRecord]:
        """Look up what has become of the jobs, as far as that can be had: it is only for the log."""
        found: dict[str, JobRecord] = {}
        if self._get is None:
            return found
        ids = [*burial.crashed, *burial.spent][:LOOKED_UP_MAX]
        ids += [*burial.stored, *burial.released][: max(0, NAMED_MAX - len(ids))]
        try:
            async with asyncio.timeout(LOOK_UP_S):
                for at in range(0, len(ids), LOOK_UP_PIECE):
                    records = await self._get(burial.tenant, ids[at : at + LOOK_UP_PIECE])
                    found |= {record.id: record for record in records if record is not None}
        except Exception as error:
            log.warning("look_up", pid=burial.pid, error=repr(error))
        return found


def _told(burial: Burial, records: dict[str, JobRecord]) -> dict[str, object]:
    fates = {
        "crashed": burial.crashed,
        "spent": burial.spent,
        "stored": burial.stored,
        "released": burial.released,
    }
    named = [(fate, id) for fate, ids in fates.items() for id in ids][:NAMED_MAX]
    return {
        "pid": burial.pid,
        "cause": burial.cause,
        **{fate: len(ids) for fate, ids in fates.items()},
        "jobs": [f"{fate} {records[id].kind} {id}" if id in records else f"{fate} {id}" for fate, id in named],
    }


def _tell_dead(record: JobRecord, burial: Burial) -> None:
    if record.state is JobState.DEAD:
        log.error(
            "dead",
            job_id=record.id,
            kind=record.kind,
            queue=record.queue,
            attempt=record.attempt,
            max_attempts=record.max_attempts,
            error_type=WORKER_DIED,
            error=burial.cause,
            reason=record.reason,
            crashes=record.crashes,
            max_crashes=record.max_crashes,
        )
