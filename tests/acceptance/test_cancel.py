"""Cancelling what runs, through the whole line: the request, the wake-up, the handler, the settled job."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from goqueue.model.job import NewJob
from goqueue.model.query import ChangeStatus
from goqueue.model.state import JobState
from goqueue.wiring import Client
from tests.support.database import POOLED
from tests.support.processes import Bench, Process, bench, until

pytestmark = pytest.mark.postgres

APPS = Path(__file__).parents[1] / "support" / "apps"
KINDS = ("in_loop", "in_thread", "in_process")
BEAT_S = 10.0
HEARD_S = 40.0 if POOLED else BEAT_S / 2
"""A second on an idle machine. Far below a beat: it was the request's own wake-up that was heard."""


class Scene:
    """A worker at its job, and what its handlers wrote down."""

    def __init__(self, place: Bench, client: Client, effects: Path) -> None:
        self.place = place
        self.client = client
        self._effects = effects
        self.worker: Process = place.start("worker", "cancel_app:app", GOQUEUE_WORKER_CANCEL_GRACE_S="1")
        self.worker.wait_for(r"worker +start ")

    def notes(self, word: str) -> dict[str, tuple[int, float]]:
        """By id: the process, and when."""
        text = self._effects.read_text() if self._effects.exists() else ""
        lines = [line.split() for line in text.rpartition("\n")[0].splitlines()]
        return {id: (int(pid), float(at)) for what, id, pid, at in lines if what == word}

    def started(self, kind: str) -> str:
        """Enqueue, and wait until it runs."""
        job: NewJob[object] = NewJob(kind=kind)
        id = self.client.enqueue(job).id
        assert until(lambda: id in self.notes("started")), self.worker.output
        return id


@pytest.fixture
def scene(database_url: str, tmp_path: Path) -> Iterator[Scene]:
    effects = tmp_path / "effects"
    with (
        bench(APPS, GOQUEUE_URL=database_url, GOQUEUE_TEST_EFFECTS=str(effects)) as place,
        Client(url=database_url) as client,
    ):
        one = Scene(place, client, effects)
        yield one
        assert one.worker.stop() == 0, one.worker.output


def by_library(scene: Scene, id: str) -> None:
    assert scene.client.cancel(id, reason="enough") is ChangeStatus.REQUESTED


def by_command(scene: Scene, id: str) -> None:
    done = scene.place.run("jobs", "cancel", id)
    assert (done.returncode, done.stdout.split()[-1]) == (0, "requested"), done.stderr


def heard(scene: Scene, id: str) -> bool:
    """Wait until its handler has heard it."""
    return until(lambda: id in scene.notes("heard"))


@pytest.mark.parametrize("ask", [by_library, by_command])
def test_every_kind_of_handler_hears_it_soon(scene: Scene, ask: Callable[[Scene, str], None]) -> None:
    ids = {kind: scene.started(kind) for kind in KINDS}
    for kind, id in ids.items():
        before = time.monotonic()
        ask(scene, id)
        after = time.monotonic()
        assert heard(scene, id), f"{kind}: {scene.worker.output}"
        heard_s = scene.notes("heard")[id][1] - after
        assert heard_s < HEARD_S, f"{kind} heard it {heard_s:.1f} s later (asked within {after - before:.1f} s)"
    jobs = [scene.client.get(id) for id in ids.values()]
    assert until(lambda: {job.state() for job in jobs} == {JobState.CANCELLED}), [job.record() for job in jobs]
    assert {(job.record().attempt, job.record().crashes) for job in jobs} == {(1, 0)}


def test_the_others_run_on(scene: Scene) -> None:
    first, second = scene.started("in_process"), scene.started("in_process")
    by_library(scene, first)
    assert until(lambda: scene.client.get(first).state() is JobState.CANCELLED), scene.worker.output
    assert scene.client.get(second).state() is JobState.RUNNING
    assert second not in scene.notes("heard")
    by_library(scene, second)
    assert until(lambda: scene.client.get(second).state() is JobState.CANCELLED), scene.worker.output


def test_a_process_that_does_not_listen_is_killed(scene: Scene) -> None:
    id = scene.started("deaf")
    pid = scene.notes("started")[id][0]
    by_library(scene, id)
    assert until(lambda: scene.client.get(id).state() is JobState.CANCELLED), scene.worker.output
    assert until(lambda: not psutil.pid_exists(pid))
    record = scene.client.get(id).record()
    assert (record.attempt, record.cancel_requested_at is None) == (1, False)
    # The worker goes on.
    again = scene.started("in_process")
    by_library(scene, again)
    assert heard(scene, again), scene.worker.output


def test_all_of_a_kind_at_once(scene: Scene) -> None:
    ids = [scene.started("in_loop") for _ in range(5)]
    done = scene.client.cancel_many(kinds=["in_loop"])
    assert (done.found, done.requested, done.changed) == (5, 5, 0)
    assert until(lambda: set(ids) <= set(scene.notes("heard"))), scene.worker.output
    assert until(lambda: all(scene.client.get(id).state() is JobState.CANCELLED for id in ids))
