"""The lane book: which lanes (tenant, queue, priority, group) a claim should ask for, and from where in each.

A claim walks each lane's part of the ready index in order. Two things would make that slow: lanes that are empty, and
dead index entries that no vacuum can remove while some transaction holds an old snapshot. So the book knows which
lanes are live (they gave jobs lately, or a scan found them), and keeps for each a low-water mark below which this
process need not look. Pure: the store does the I/O, the clock is an argument.

The mark trails what was claimed by `TRAIL`, because jobs may be committed a little later than they were stamped.
Every way back to waiting sets ``run_at`` to at least now, so only a transaction that commits late puts a job below a
mark. The scan finds it, which runs beside the claims on its own connection and lowers the mark: at least every
``scan_max_s``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

TRAIL: Final = timedelta(milliseconds=100)
NIL: Final = "00000000-0000-0000-0000-000000000000"
BEGINNING: Final = datetime(2000, 1, 1, tzinfo=UTC)
WARM_S: Final = 60.0
"""A lane that was empty is asked for again for this long: a wake-up then needs no scan before its claim."""
WARM_MAX: Final = 16
ENGAGE_RATIO: Final = 2.0
"""Marks are used while a claimed job costs this many times the best that was seen."""


class Lane(NamedTuple):
    """What is ordered by itself: jobs of one lane go by (run_at, id)."""

    queue: str
    priority: int
    group_key: str


class Mark(NamedTuple):
    """A place in a lane: claims look above it."""

    run_at: datetime
    id: str


START: Final = Mark(BEGINNING, NIL)


class LaneBook:
    """The lanes of one worker's queues (in one tenant). Bounded by ``lanes_max`` live and `WARM_MAX` warm lanes."""

    def __init__(self, *, lanes_max: int) -> None:
        self._lanes_max = lanes_max
        self._live: dict[Lane, Mark] = {}
        self._warm: dict[Lane, tuple[float, Mark]] = {}
        self._best_s: float | None = None
        self._engaged = False
        self._slow_left = 0

    @property
    def engaged(self) -> bool:
        """Whether claims use the marks now."""
        return self._engaged

    def wanted(self, queues: Sequence[str], now_s: float) -> list[tuple[Lane, Mark]]:
        """Return the lanes to ask for, in order: by the order of ``queues``, then priority, then group."""
        for lane in [lane for lane, (until, _) in self._warm.items() if until <= now_s]:
            del self._warm[lane]
        rank = {queue: i for i, queue in enumerate(queues)}
        lanes = [lane for lane in (*self._live, *self._warm) if lane.queue in rank]
        lanes.sort(key=lambda lane: (rank[lane.queue], lane.priority, lane.group_key))
        return [(lane, self._mark(lane) if self._engaged else START) for lane in lanes[: self._lanes_max]]

    def _mark(self, lane: Lane) -> Mark:
        known = self._live.get(lane)
        return known if known is not None else self._warm[lane][1]

    def claimed(
        self, asked: Sequence[Lane], last: dict[Lane, Mark], *, full: bool, took_s: float, jobs: int, now_s: float
    ) -> None:
        """Note a claim: the last (run_at, id) that each lane gave; ``full`` when the total was reached.

        Lanes that gave nothing although there was room are empty: they turn warm. When the total was reached,
        lanes behind the last one that gave are unknown and stay.
        """
        empty_before = len(asked)
        if full:
            given = [i for i, lane in enumerate(asked) if lane in last]
            empty_before = given[-1] if given else 0
        for i, lane in enumerate(asked):
            mark = last.get(lane)
            if mark is not None:
                self._warm.pop(lane, None)
                self._live[lane] = Mark(mark.run_at - TRAIL, NIL)
            elif i < empty_before:
                self._cool(lane, now_s)
        self._judge(took_s, jobs)

    def _judge(self, took_s: float, jobs: int) -> None:
        """Engage the marks when a job costs several times the best, which is what dead entries below them do."""
        if jobs < 50:
            return
        each_s = took_s / jobs
        if self._best_s is None or each_s < self._best_s:
            self._best_s = each_s
        self._best_s *= 1.001  # forget slowly: a server may have become slower for good
        if each_s > ENGAGE_RATIO * self._best_s:
            self._slow_left = 200
        self._slow_left = max(0, self._slow_left - 1)
        self._engaged = self._slow_left > 0

    def _cool(self, lane: Lane, now_s: float) -> None:
        """Keep an empty lane in mind for a while after its last job, with its mark."""
        mark = self._live.pop(lane, None)
        if mark is None:
            return
        self._warm[lane] = (now_s + WARM_S, mark)
        while len(self._warm) > WARM_MAX:
            del self._warm[min(self._warm, key=lambda lane: self._warm[lane][0])]

    def scanned(self, found: dict[Lane, Mark]) -> None:
        """Note a full scan: the lanes that it found are live, and no mark is above a lane's first job."""
        for lane, first in found.items():
            below = Mark(first.run_at - TRAIL, NIL)
            known = self._live.get(lane)
            if known is None and lane in self._warm:
                known = self._warm.pop(lane)[1]
            self._live[lane] = below if known is None else min(known, below)

    def reset(self) -> None:
        """Forget all marks: after a reconnect, or when the server may be another one."""
        self._live = dict.fromkeys(self._live, START)
        self._warm.clear()
        self._best_s = None
        self._engaged = False
        self._slow_left = 0
