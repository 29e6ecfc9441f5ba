"""Who is busy and who is stuck: the watch over a journal page, with a clock that the tests move."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from unittest.mock import Mock

import pytest

from goqueue.engine import worker_process
from goqueue.engine.journal import Journal, Page
from goqueue.engine.watch import FRESH_S, SLACK_S, WATCH_S, Watch
from goqueue.engine.worker_process import WorkerProcess
from goqueue.settings import WorkerSettings
from tests.unit.engine.faults import DEADLINE_S

SETTINGS = WorkerSettings(stuck_s=10.0, cancel_grace_s=5.0)


class Scene:
    def __init__(self) -> None:
        self.now_s = 1000.0
        self.page = Page.create(4)
        self.journal = Journal(self.page, now_s=lambda: self.now_s)
        self.watch = Watch(self.page, SETTINGS, now_s=lambda: self.now_s)

    def looks_for(self, seconds: float) -> float | None:
        """Look as often as the supervisor does; return after how long it was given up, None if it was not."""
        began_s = self.now_s
        while self.now_s < began_s + seconds:
            self.now_s += WATCH_S
            if self.watch.look():
                return self.now_s - began_s
        return None


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    scene.page.close()


def test_before_the_first_sign_of_life_and_after_the_last_nobody_is_given_up(scene: Scene) -> None:
    assert scene.looks_for(3600.0) is None
    scene.journal.alive(0.0)
    scene.journal.close()
    assert scene.looks_for(3600.0) is None


def test_a_loop_that_turns_is_alive_whatever_its_handlers_do(scene: Scene) -> None:
    for _ in range(100):
        scene.journal.alive(0.0)
        assert scene.looks_for(0.5) is None
    assert scene.watch.stuck_s == 0.0


def test_a_loop_that_stands_still_with_nothing_running_is_given_up(scene: Scene) -> None:
    scene.journal.alive(0.0)
    given_up_s = scene.looks_for(60.0)
    assert given_up_s == pytest.approx(FRESH_S + 10.0, abs=2 * WATCH_S)


def test_a_handler_within_its_timeout_is_an_excuse_until_it_should_have_ended(scene: Scene) -> None:
    scene.journal.alive(scene.now_s + 30.0)
    given_up_s = scene.looks_for(120.0)
    assert given_up_s == pytest.approx(30.0 + 5.0 + SLACK_S + 10.0, abs=2 * WATCH_S)


def test_a_handler_without_a_timeout_is_an_excuse_for_ever(scene: Scene) -> None:
    scene.journal.alive(math.inf)
    assert scene.looks_for(86_400.0) is None


def test_one_sign_of_life_ends_all_suspicion(scene: Scene) -> None:
    scene.journal.alive(0.0)
    assert scene.looks_for(11.0) is None
    assert scene.watch.stuck_s > 8.0
    scene.journal.alive(0.0)
    assert scene.looks_for(11.0) is None


def test_time_in_which_the_supervisor_did_not_run_itself_does_not_count(scene: Scene) -> None:
    """A stopped process group: both go on at the same instant, and the worker must get the chance to say so."""
    scene.journal.alive(0.0)
    scene.now_s += 3600.0
    assert not scene.watch.look()
    assert scene.watch.stuck_s <= 2 * WATCH_S
    scene.journal.alive(0.0)
    assert scene.looks_for(1.0) is None


async def test_who_speaks_for_a_stuck_process_is_silenced_although_its_cancellation_gets_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Should even a kill not end the process, its leases must end."""
    monkeypatch.setattr(worker_process, "ABORT_S", 0.0)
    monkeypatch.setattr(Watch, "look", lambda _: True)
    swallowed = 0

    async def speak() -> None:
        nonlocal swallowed
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            swallowed += 1
        await asyncio.Event().wait()

    page = Page.create(1)
    it = WorkerProcess(
        Mock(pid=1), "w", page, WorkerSettings(), tenant="t", extend=Mock(), reader=Mock(), writer=Mock()
    )
    speaking = asyncio.create_task(speak())
    await asyncio.sleep(0)
    await asyncio.wait_for(it._watch(speaking), DEADLINE_S)
    assert (swallowed, speaking.cancelled()) == (1, True)
    page.close()
