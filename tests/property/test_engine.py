"""The whole engine, with real workers, under random users, operators, faults and time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import ClassVar

import hypothesis
import pytest
import structlog
from hypothesis.stateful import run_state_machine_as_test

from goqueue.engine import attempts, worker
from goqueue.engine.burial import Burial
from goqueue.engine.runner import Runner
from goqueue.model.job import JobRef
from goqueue.model.state import StoredState
from goqueue.store.memory import Memory, MemoryStore, working
from goqueue.store.memory.row import Row
from tests.property.engine_machine import EngineMachine

HEALTH = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.filter_too_much]


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A stop does not wait long for handlers that ignore it; and what the workers log is not what this is about."""
    monkeypatch.setattr(worker, "UNWIND_S", 0.02)
    with structlog.testing.capture_logs():
        yield


def _drive(*, examples: int) -> Counter[str]:
    """Run the machine; return how often what was seen. Says first what went wrong first."""
    seen: Counter[str] = Counter()

    class Machine(EngineMachine):
        failures: ClassVar[list[BaseException]] = []

        def teardown(self) -> None:
            super().teardown()
            seen.update(self.fleet.laws.seen)

    # Not shrunk: a step that hangs costs its whole deadline, and threads and timers take part. The seed is printed.
    settings = hypothesis.settings(
        max_examples=examples,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=HEALTH,
        phases=[hypothesis.Phase.generate],
        database=None,
    )
    try:
        run_state_machine_as_test(Machine, settings=settings)
    except BaseException as error:
        if Machine.failures:
            raise AssertionError(f"the engine broke a law: {Machine.failures[0]}") from error
        raise
    return seen


@pytest.mark.timeout(300)
def test_the_engine_keeps_its_laws() -> None:
    seen = _drive(examples=40)
    print("seen:", dict(sorted(seen.items())))
    for what in ("claims", "complete applied", "retry applied", "snooze applied", "dead applied", "cancel applied"):
        assert seen[what] > 0, f"this never happened: {what}"


# -- the test of the test: an engine that is broken is found ------------------------------------------------


def _unfenced(patch: pytest.MonkeyPatch) -> None:
    def running(memory: Memory, ref: JobRef, _fence: int) -> Row | None:
        row = memory.live.get((ref.tenant, ref.id))
        return row if row is not None and row.state is StoredState.RUNNING else None

    patch.setattr(working, "running_under", running)


def _deaf_to_pauses(patch: pytest.MonkeyPatch) -> None:
    async def pause(self: MemoryStore, tenant: str, queue: str, paused: bool) -> None:
        pass

    patch.setattr(MemoryStore, "pause", pause)


def _starts_what_is_overdue(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(attempts, "overdue", lambda _lease, _since_claim_s: None)


def _stops_without_handing_back(patch: pytest.MonkeyPatch) -> None:
    def forget(self: Runner) -> int:
        self._waiting.clear()
        return 0

    patch.setattr(Runner, "hand_back_waiting", forget)


def _blames_neighbours_for_a_crash(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Burial, "_outcome", lambda self, _one: self._crash)


# One break can be noticed by several laws, and chance decides by which first. Not by the machine's own deadlines: those
# are also missed when it is only slow.
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "break_it, law",
    [
        (_unfenced, "by law|does not follow|two valid leases|was started twice|changed after its end"),
        (_deaf_to_pauses, "from a paused queue"),
        (_starts_what_is_overdue, "too late|after its deadline|does not follow"),
        (_stops_without_handing_back, "a graceful stop left|these never end"),
        (_blames_neighbours_for_a_crash, "does not follow|by law"),
    ],
)
def test_the_machine_finds_a_broken_engine(
    break_it: Callable[[pytest.MonkeyPatch], None], law: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_it(monkeypatch)
    with pytest.raises(AssertionError, match=law):
        _drive(examples=1000)
