"""What the supervisor's tests run in their worker processes: a worker over a memory store that reports what it does."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import threading
from typing import TYPE_CHECKING

import msgspec

from goqueue.engine.worker import Worker, worker_info
from goqueue.model.errors import NotConfigured
from goqueue.settings import WorkerSettings
from goqueue.tasks.app import GoQueue
from tests.unit.engine.faults import FaultyStore

if TYPE_CHECKING:
    from goqueue.engine.child import Child
    from goqueue.model.outcome import Answer, Settlement


class Payload(msgspec.Struct):
    """What a test wants of its workers."""

    socket: str
    settings: WorkerSettings
    job: str = ""
    seconds: float = 0.0


app = GoQueue()
report_to: socket.socket


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


class ReportingStore(FaultyStore):
    async def _settle(self, outcomes: object) -> list[Answer]:
        settlements: list[Settlement] = outcomes  # type: ignore[assignment] # as the base class has it
        answers = await super()._settle(settlements)
        for settlement, answer in zip(settlements, answers, strict=True):
            report("settled", os.getpid(), type(settlement.outcome).__name__, answer.value)
        return answers


async def target(child: Child) -> None:
    global report_to
    payload = msgspec.json.decode(child.payload, type=Payload)
    if payload.job == "misconfigured":
        raise NotConfigured("there is no store")
    report_to = socket.socket(socket.AF_UNIX)
    report_to.connect(payload.socket)
    store, settings = ReportingStore(), payload.settings
    if payload.job == "hold_the_gil":
        # Its neighbour is still running when the GIL is free again, and must not be given up.
        await store.enqueue(wait.job(payload.seconds + 0.5))
    if payload.job == "hang":
        settings = msgspec.structs.replace(settings, cancel_grace_s=0.05)
        await store.enqueue(hang.job(payload.seconds), wait.job(0.5))
    if payload.job:
        await store.enqueue(app.tasks[payload.job].job(payload.seconds))
    info = worker_info(app, settings, ("default",), id=child.worker_id)
    report("up", os.getpid(), child.worker_id)
    await child.serve(Worker(app, store, settings, info=info, lifeline=child.lifeline))
    report("down", os.getpid())
