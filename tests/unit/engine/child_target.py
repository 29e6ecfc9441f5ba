"""What the supervisor's tests run in their worker processes: a worker over a memory store that reports what it does."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from goqueue.engine import worker as worker_module
from goqueue.engine.keeper import Keeper
from goqueue.engine.worker import Worker, worker_info
from goqueue.model.errors import NotConfigured
from goqueue.settings import WorkerSettings
from goqueue.tasks.app import GoQueue
from tests.unit.engine.faults import FaultyStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from goqueue.engine.child import Child
    from goqueue.model.lease import Claimed, Want
    from goqueue.model.outcome import Answer, Settlement


class Payload(msgspec.Struct):
    """What a test wants of its workers."""

    socket: str
    settings: WorkerSettings
    job: str = ""
    seconds: float = 0.0
    others: int = 0
    """So many jobs that do nothing, enqueued after it."""


app = GoQueue()
report_to: socket.socket
store: ReportingStore


def report(*words: object) -> None:
    report_to.sendall((" ".join(map(str, words)) + "\n").encode())


@app.task
async def hold_the_gil(seconds: float) -> None:
    report("holding", os.getpid())
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))  # PyDLL keeps the GIL during the call
    report("held", os.getpid())


@app.task
async def wait(seconds: float) -> None:
    report("waiting", os.getpid())
    await asyncio.sleep(seconds)


@app.task
async def deaf(seconds: float) -> None:
    report("waiting", os.getpid())
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue


@app.task(timeout_s=0.01)
def hang(seconds: float) -> None:
    report("hanging", os.getpid())
    threading.Event().wait(seconds)


@app.task
async def die(seconds: float) -> None:
    report("dying", os.getpid())
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
async def exit_0(seconds: float) -> None:
    report("dying", os.getpid())
    os._exit(0)


@app.task(timeout_s=0.2)
async def hold_past_timeout(seconds: float) -> None:
    report("holding", os.getpid())
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))


@app.task
async def noop(seconds: float) -> None: ...


@app.task
async def cut_off(seconds: float) -> str:
    """From here on the store is away, and stays away."""
    store.down = True
    report("cut_off", os.getpid())
    return "done"


def break_the_keeper() -> None:
    """As a bug would, for which nobody has thought of a net."""

    async def pause(self: Keeper) -> None:
        raise ZeroDivisionError("a bug in the keeper")

    Keeper._pause = pause  # type: ignore[method-assign]


def deadlock() -> None:
    report("deadlocked", os.getpid())
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


class ReportingStore(FaultyStore):
    """Tells of all leases and outcomes, so that the test can answer as the store would."""

    async def claim(self, want: Want, outcomes: Sequence[Settlement] = ()) -> Claimed:
        claimed = await super().claim(want, outcomes)
        for lease in claimed.leases:
            report("claimed", os.getpid(), lease.id, lease.fence)
        return claimed

    async def _settle(self, outcomes: Sequence[Settlement]) -> list[Answer]:
        answers = await super()._settle(outcomes)
        for settlement, answer in zip(outcomes, answers, strict=True):
            report("settled", os.getpid(), type(settlement.outcome).__name__, answer.value)
            report("decided", os.getpid(), settlement.ref.id, settlement.fence)
        return answers


async def target(child: Child) -> None:
    global report_to, store
    payload = msgspec.json.decode(child.payload, type=Payload)
    if payload.job == "misconfigured":
        raise NotConfigured("there is no store")
    first = is_first(payload.socket)
    if payload.job == "only_one" and not first:
        raise NotConfigured("there was a bad deploy")
    report_to = socket.socket(socket.AF_UNIX)
    report_to.connect(payload.socket)
    store = ReportingStore()
    await fill(store, payload)
    info = worker_info(app, payload.settings, ("default",), id=child.worker_id)
    report("up", os.getpid(), child.worker_id)
    worker = Worker(app, store, payload.settings, info=info, lifeline=child.lifeline, journal=child.journal)
    if payload.job == "cut_off":
        worker_module.FLUSH_S = 0.3  # type: ignore[misc]
    if payload.job == "broken_keeper" and first:
        break_the_keeper()
    if payload.job == "deadlock" and first:
        asyncio.get_running_loop().call_later(1.0, deadlock)
    await child.serve(worker)
    report("down", os.getpid())


def is_first(path: str) -> bool:
    mark = Path(f"{path}.started")
    there = mark.exists()
    mark.touch()
    return not there


async def fill(store: ReportingStore, payload: Payload) -> None:
    if payload.job == "hold_the_gil":
        # Its neighbour is still running when the GIL is free again, and must not be given up.
        await store.enqueue(wait.job(payload.seconds + 0.5))
    if payload.job == "hang":
        await store.enqueue(hang.job(payload.seconds), wait.job(0.5))
    if payload.job in app.tasks:
        await store.enqueue(app.tasks[payload.job].job(payload.seconds))
    if payload.others:
        await store.enqueue(*(noop.job(0.0) for _ in range(payload.others)))
