"""What a worker and a handler's process say to each other has a bound, both in writing and in reading."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from unittest.mock import Mock

import pytest

from goqueue.engine.executors import process_child, wire
from goqueue.engine.executors.home import Home
from goqueue.engine.executors.process_child import Line, LinePort
from goqueue.engine.worker import Worker
from goqueue.model.errors import InvalidInput, LeaseLost, StoreUnavailable
from goqueue.model.job import NewJob
from goqueue.model.state import JobState
from goqueue.settings import StoreSettings
from goqueue.store.memory.store import MemoryStore
from goqueue.tasks.task import Task
from tests.unit.engine import wire_app as tasks
from tests.unit.engine.faults import FaultyStore, quick
from tests.unit.engine.test_verdict import lease


def test_the_longest_message_passes_and_one_byte_more_does_not() -> None:
    room = wire.MESSAGE_BYTES_MAX - len(wire.encode(wire.Progress(b"x" * (1 << 20)))) + (1 << 20)
    longest = wire.frame(wire.Progress(b"x" * room))
    assert wire.length(longest[: wire.HEADER.size]) == wire.MESSAGE_BYTES_MAX == len(longest) - wire.HEADER.size
    with pytest.raises(InvalidInput, match="16777217 bytes"):
        wire.frame(wire.Progress(b"x" * (room + 1)))


def test_what_is_too_large_is_refused_before_it_is_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "encode", Mock(side_effect=AssertionError("it was encoded")))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        port = LinePort(Line(theirs), Home(""))
        port.lease = lease()
        job = NewJob[object](kind="large", args=b'"' + b"x" * (1 << 20) + b'"')
        with pytest.raises(InvalidInput, match="enqueue fewer jobs in one call"):
            asyncio.run(port.enqueue(port.lease, [job] * 17))


def test_the_process_reads_no_more_either() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(10)
        ours.sendall(wire.HEADER.pack(wire.MESSAGE_BYTES_MAX + 1))
        with pytest.raises(wire.TooLong, match="16777217"):
            Line(theirs).receive()


def test_a_process_that_is_sent_nonsense_ends_and_says_why() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "goqueue.engine.executors.process_child"],
                pass_fds=(theirs.fileno(),),
                env={**os.environ, wire.FD_VARIABLE: str(theirs.fileno())},
                stderr=subprocess.PIPE,
                text=True,
            )
        ours.sendall(wire.frame(wire.Hello(sys.path)) + b"\xff\xff\xff\xff")
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said == "goqueue: the worker sent a message of 4294967295 bytes, more than 16777216\n"


@pytest.mark.parametrize(
    "task,type,message",
    [
        (tasks.enqueue_too_much, "goqueue.model.errors.InvalidInput", "enqueue fewer jobs in one call"),
        (tasks.talk_nonsense, "HandlerDied", "a message of 4294967295 bytes"),
        (tasks.talk_gibberish, "HandlerDied", "it was killed"),
    ],
)
async def test_it_is_a_failed_attempt(task: Task[[], None], type: str, message: str) -> None:
    store = FaultyStore(MemoryStore(settings=StoreSettings(crash_delay_s=60.0)))
    ids = await store.enqueue(task.job())
    async with asyncio.timeout(60):
        await Worker(tasks.app, store, quick()).run_until_idle()
    (job,) = await store.jobs(ids)
    assert (job.state, job.errors[0].type) == (JobState.RETRYING, type)
    assert message in job.errors[0].message


def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        line = Line(theirs)
        port = LinePort(line, Home(""))
        monkeypatch.setattr(process_child, "REPLY_S", 0.05)
        with pytest.raises(StoreUnavailable):
            port._ask([])
        line.replies.put(wire.EnqueueReply([], "LeaseLost", "to the first", number=1))
        line.replies.put(wire.EnqueueReply([], "LeaseLost", "to the second", number=2))
        with pytest.raises(LeaseLost, match="to the second"):
            port._ask([])
        line.replies.put(wire.EnqueueReply([], number=2))  # and none is no answer
        with pytest.raises(StoreUnavailable):
            port._ask([])
