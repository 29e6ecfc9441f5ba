"""Contenders take turns, A B C A B C …: what else the machine does then falls on all alike."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, Protocol, TypeVar

from bench.contenders import OURS
from bench.processes import Failed
from bench.watching import Patience, Run


class Named(Protocol):
    """Whoever takes turns."""

    @property
    def name(self) -> str:
        """What it is called."""


C = TypeVar("C", bound=Named)
R = TypeVar("R", bound=Run)


@dataclass(frozen=True)
class Turns(Generic[R]):
    """The runs of each contender, and why some have none."""

    runs: dict[str, list[R]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def values(self, name: str, value: Callable[[R], float | None]) -> list[float]:
        """One number of each run of a contender; none if it did not run, or the machine could not tell."""
        found = [value(run) for run in self.runs.get(name, [])]
        return [number for number in found if number is not None]


def taken(contenders: Sequence[C], count: int, patience: Patience, run: Callable[[C, int], R]) -> Turns[R]:
    """Let each run ``count`` times. ``run`` is given the contender and the number of the turn.

    A peer that fails drops out, with a note; if GoQueue (whatever is called so, up to a comma) fails there is nothing
    to compare, and `Failed` is raised.
    """
    turns = Turns[R]()
    for turn in range(count):
        for contender in contenders:
            if contender.name in turns.failures:
                continue
            try:
                outcome = patience.run(partial(run, contender, turn))
            except Failed as error:
                if contender.name.split(",")[0] == OURS:
                    raise
                print(f"bench: {contender.name}: {error}", file=sys.stderr, flush=True)
                turns.failures[contender.name] = f"failed: {str(error).splitlines()[0][:80]}"
            else:
                turns.runs.setdefault(contender.name, []).append(outcome)
    return turns
