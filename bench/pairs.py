"""`pairs`: this tree beside an earlier revision of itself, in alternating pairs: has it become slower?

Each pair is one run of either on the same server, one right after the other; which comes first alternates. What is
compared is the ratio within a pair, so that what else the machine does falls out; the figure is their median.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from bench import drain, pickup, watching
from bench.contenders import GoQueueContender
from bench.database import Server
from bench.processes import Failed
from bench.report import Figure, Target
from bench.stamps import Stamps

ROOT = Path(__file__).resolve().parent.parent
TARGET = Target(least=0.93)
CHECK_S = 30.0

R = TypeVar("R", bound=watching.Run)


@dataclass(frozen=True)
class Options:
    """What one call measures."""

    revision: str
    pairs: int
    drain_jobs: int
    pickup_jobs: int
    seed: int


@dataclass(frozen=True)
class EarlierContender(GoQueueContender):
    """GoQueue as it was: its source stands before ours on the path of every process."""

    source: str = ""

    def environment(self, url: str, *, processes: int = 1, stamps: Stamps | None = None) -> dict[str, str]:
        """See `bench.contenders.Contender`."""
        return {**super().environment(url, processes=processes, stamps=stamps), "PYTHONPATH": self.source}


def measure(server: Server, goqueue: GoQueueContender, options: Options) -> list[Figure]:
    """Alternate the two; return the ratios of drain and of pick-up, above 1 when this tree is the faster."""
    with _source_of(options.revision) as source:
        earlier = EarlierContender(
            goqueue.command,
            goqueue.concurrency,
            goqueue.prefetch,
            goqueue.settings,
            name=f"at {options.revision}",
            source=source,
        )
        _check_source(earlier)
        drained = drain.Options(options.drain_jobs, options.pairs, (1,))
        drains = _pairs(
            server,
            (goqueue, earlier),
            options.pairs,
            lambda who: drain.drain(server, who, drained, processes_count=1, jobs=options.drain_jobs),
            lambda run: run.per_s,
        )
        pickups = _pairs(
            server,
            (goqueue, earlier),
            options.pairs,
            lambda who: pickup.pick_up(server, who, options.pickup_jobs, options.seed),
            lambda run: run.p50_ms,
        )
    return [
        _figure("drain", [ours / theirs for ours, theirs in drains], drains, "jobs/s", options, goqueue),
        _figure("pick-up p50", [theirs / ours for ours, theirs in pickups], pickups, "ms", options, goqueue),
    ]


def _pairs(
    server: Server,
    both: tuple[GoQueueContender, GoQueueContender],
    count: int,
    run: Callable[[GoQueueContender], R],
    value: Callable[[R], float],
) -> list[tuple[float, float]]:
    """Return ``count`` pairs of figures, in the order of ``both``, whichever ran first."""
    for who in both:  # warms the page cache and the interpreter's
        run(who)
    found = []
    for number in range(count):
        order = both if number % 2 == 0 else both[::-1]
        figures = {who.name: value(server.patience.run(partial(run, who))) for who in order}
        found.append((figures[both[0].name], figures[both[1].name]))
    return found


def _figure(
    what: str,
    ratios: list[float],
    pairs: list[tuple[float, float]],
    unit: str,
    options: Options,
    goqueue: GoQueueContender,
) -> Figure:
    return Figure(
        bench="pairs",
        name=f"{what}, beside {options.revision}",
        unit="×",
        runs=ratios,
        config=f"{options.pairs} alternating pairs; {goqueue.config}; " + _spread(ratios, pairs, unit),
        target=TARGET,
    )


def _spread(ratios: list[float], pairs: list[tuple[float, float]], unit: str) -> str:
    shown = ", ".join(f"{ours:,.4g}/{theirs:,.4g}" for ours, theirs in pairs)
    return f"ratios from {min(ratios):.3f} to {max(ratios):.3f}; now/then in {unit}: {shown}"


@contextmanager
def _source_of(revision: str) -> Iterator[str]:
    """Unpack the package as it was at that revision, and yield its folder."""
    with TemporaryDirectory(prefix="goqueue-bench-") as folder:
        archived = subprocess.run(
            ["git", "-C", str(ROOT), "archive", revision, "src/goqueue"], capture_output=True, timeout=CHECK_S
        )
        if archived.returncode != 0:
            raise Failed(f"there is no revision {revision!r} here: {archived.stderr.decode().strip()}")
        subprocess.run(["tar", "-x", "-C", folder], input=archived.stdout, check=True, timeout=CHECK_S)
        yield str(Path(folder) / "src")


def _check_source(earlier: EarlierContender) -> None:
    """Make sure that it is the old source that runs."""
    found = subprocess.run(
        [sys.executable, "-c", "import goqueue; print(goqueue.__file__)"],
        env={**os.environ, **earlier.environment("postgresql://unused")},
        capture_output=True,
        text=True,
        timeout=CHECK_S,
    ).stdout
    if not found.startswith(earlier.source):
        raise Failed(f"the earlier source is not what is imported, but {found.strip()}")
