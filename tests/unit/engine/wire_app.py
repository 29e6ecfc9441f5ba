"""Handlers in processes that put on the line what no message may be."""

from __future__ import annotations

import os
import socket
import stat
import time

from goqueue.model.limits import ARGS_BYTES_MAX
from goqueue.tasks.app import GoQueue
from goqueue.tasks.context import Context
from goqueue.tasks.retry import RetryPolicy

app = GoQueue(retry=RetryPolicy.fixed(3600.0))


@app.task
def large(text: str) -> None:
    del text


@app.task(run_in="process")
def enqueue_too_much(ctx: Context[object]) -> None:
    job = large.job("x" * (ARGS_BYTES_MAX - 100))
    ctx.run(ctx.enqueue_many([job] * 17))


@app.task(run_in="process")
def talk_nonsense() -> None:
    _say(b"\xff\xff\xff\xff")


@app.task(run_in="process")
def talk_gibberish() -> None:
    _say(b"\0\0\0\3\xc1\xc1\xc1")


def _say(what: bytes) -> None:
    """Write to the worker's socket past the protocol, as code that closes and reuses descriptors may."""
    for number in range(3, 64):
        try:
            is_socket = stat.S_ISSOCK(os.fstat(number).st_mode)
        except OSError:
            continue
        if is_socket:
            with socket.socket(fileno=os.dup(number)) as line:
                line.sendall(what)
            time.sleep(60)  # it is killed before
