"""A worker process under a supervisor: ``python -m goqueue.engine.child``, started by `goqueue.engine.supervisor` only.

It is told over its lifeline which function builds and runs the worker, so that the engine knows of no store and no
application: ``async def target(child: Child) -> None``.
"""

from __future__ import annotations

import asyncio
import faulthandler
import importlib
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Final

from goqueue.engine.journal import Journal
from goqueue.engine.lifeline import FD_VARIABLE, Lifeline
from goqueue.engine.worker import WorkerBroken
from goqueue.model.errors import ConfigurationError, DefinitionError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from goqueue.engine.journal import NullJournal
    from goqueue.engine.worker import Worker

EXIT_MISCONFIGURED: Final = 78
"""EX_CONFIG of sysexits.h: starting again would not help, the supervisor gives up."""
EXIT_BROKEN: Final = 70
"""EX_SOFTWARE of sysexits.h: the worker has found a bug in itself. A new process is better."""


class Child:
    """What the target gets: who this worker is, the payload that the supervisor was given, lifeline and journal."""

    def __init__(self, worker_id: str, payload: str, lifeline: Lifeline, journal: Journal | NullJournal) -> None:
        self.worker_id = worker_id
        self.payload = payload
        self.lifeline = lifeline
        self.journal = journal

    async def serve(self, worker: Worker) -> None:
        """Run ``worker`` until the supervisor, or a signal, stops it.

        Signals do not escalate here: a Ctrl-C reaches the whole group, and the supervisor passes on what it gets.
        """
        stopped = False

        def stop_once() -> None:
            nonlocal stopped
            if not stopped:
                stopped = True
                worker.stop_gracefully()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop_once)
        code = 0
        try:
            await worker.run()
        except WorkerBroken:  # what has broken it was logged with its traceback
            code = EXIT_BROKEN
        if code or worker.hung:
            # A handler that ignores its cancellation would keep the loop from closing. Everything is settled.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def run(main: Coroutine[object, object, None]) -> None:
    """Run ``main`` on the fastest event loop there is."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)


def main() -> int:
    """Take the place of one worker process; return its exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # until `Child.serve`; the lifeline says when to stop
    # A crash, and the SIGABRT of a supervisor that gives this process up, leave the stacks of all threads in the log.
    faulthandler.enable(all_threads=True)
    connection = socket.socket(fileno=int(os.environ.pop(FD_VARIABLE)))
    connection.set_inheritable(False)
    lifeline, journal = Lifeline(connection), Journal.inherited()
    try:
        hello = lifeline.hello()
        sys.path[:] = hello.sys_path
        target = _resolve(hello.target)
        run(_call(target, Child(hello.worker_id, hello.payload, lifeline, journal)))
    except (ConfigurationError, DefinitionError) as error:
        print(f"goqueue worker: {error}", file=sys.stderr)  # noqa: T201  before any logging is set up
        return EXIT_MISCONFIGURED
    except EOFError as error:
        print(f"goqueue worker: {error}", file=sys.stderr)  # noqa: T201  before any logging is set up
        return 1
    return 0


async def _call(target: Callable[[Child], Awaitable[None]], child: Child) -> None:
    await target(child)


def _resolve(target: str) -> Callable[[Child], Awaitable[None]]:
    module, _, name = target.partition(":")
    found: Callable[[Child], Awaitable[None]] = getattr(importlib.import_module(module), name)
    return found


if __name__ == "__main__":
    sys.exit(main())
