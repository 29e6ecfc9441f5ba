"""The harness of the fault suite: real `goqueue worker` and `goqueue server` processes on a real PostgreSQL, a ledger
outside the store, a trail by triggers, and the checker that holds one against the other.

Write a test like this, in ``tests/chaos/test_<what>.py``, named after its number in the list of faults::

    from tests.chaos.harness import Chaos

    def test_01_kill_9_of_a_worker_process(chaos: Chaos) -> None:
        fleet = chaos.worker("--concurrency", "4")         # a real worker, its supervisor included; it has started
        ids = chaos.enqueue("work", chaos.pick(20, 400), ms=50)     # few when short, many in `make chaos`
        chaos.wait_started(ids[0])                         # conditions with deadlines, no sleeps
        chaos.kill(chaos.runner_of(ids[0]))
        chaos.settle()                                     # wait until all that was acknowledged is final
        fleet.stop()
        chaos.check()                                      # the laws of tests.chaos.checker; every test must call it

What else there is: ``chaos.random`` (seeded; ``chaos.seed`` is printed), ``chaos.full`` (under `make chaos`),
``chaos.server()`` (a `goqueue server`, with ``.http``), ``chaos.flow(...)`` (enqueues in the background until its
block ends), ``chaos.submit(jobs, send)`` (any other way to enqueue, logged), ``chaos.open_gate(name)`` for handlers
that wait, ``chaos.ledger.find("start", id=...)``, ``chaos.sql(...)`` and ``chaos.row(id)`` for what the store says,
``chaos.story(id)`` for what happened to it. Handlers are in ``apps/chaos_app.py``. Settings are variables:
``chaos.worker(GOQUEUE_WORKER_LEASE_S="2")``, and so
is another way to the database: ``chaos.worker(GOQUEUE_URL=proxy)``.
The fixture ``make_chaos(url, **variables)`` makes a Chaos on a server of the test's own.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg

from goqueue.model.errors import Conflict, InvalidInput, Unavailable
from goqueue.model.job import NewJob
from goqueue.tasks.prepare import new_id
from goqueue.wiring import Client
from tests.chaos import trail
from tests.chaos.checker import Allowed, Violation, check
from tests.chaos.ledger import VARIABLE, Ledger
from tests.chaos.replay import Kind, Move, moves
from tests.support.processes import Bench, Process, bench, until

APPS = Path(__file__).parent / "apps"
ROOT = Path(__file__).parents[2]
APP = "chaos_app:app"
WAIT_S = 60.0
"""Of every condition: much more than it takes on a busy machine."""
WAIT_FULL_S = 300.0
"""For many jobs to end. Those that a crash has made suspects run two at a time, each in a process of its own."""
BATCH = 500
LEASE_S = 1.0
SWEEP_S = 0.3
FULL_SWEEP_S = 1.0

# Time is shortened by settings alone.
SETTINGS = {
    "GOQUEUE_WORKER_LEASE_S": f"{LEASE_S}",
    "GOQUEUE_WORKER_BEAT_S": "0.3",
    "GOQUEUE_WORKER_LEASE_MARGIN_S": "0.1",
    "GOQUEUE_WORKER_POLL_S": "0.2",
    "GOQUEUE_WORKER_GRACE_S": "10",
    "GOQUEUE_WORKER_CANCEL_GRACE_S": "0.5",
    "GOQUEUE_WORKER_UNKNOWN_KIND_S": "0.1",
    "GOQUEUE_WORKER_UNKNOWN_KIND_MAX_S": "0.3",
    "GOQUEUE_DUTIES_SWEEP_S": f"{SWEEP_S}",
    "GOQUEUE_DUTIES_FULL_SWEEP_S": f"{FULL_SWEEP_S}",
    "GOQUEUE_DUTIES_LEADER_TTL_S": "1",
    "GOQUEUE_STORE_CRASH_DELAY_S": "0.1",
    "GOQUEUE_STORE_SELF_TEST_S": "0.2",
}

Send = Callable[[Sequence[NewJob[Any]]], Iterable[str]]


class Server:
    """A `goqueue server` and a client of it."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.url = process.wait_for(r"listen .*url=(http://\S+)")[1]
        self.http = httpx.Client(base_url=self.url, timeout=30.0, headers={"content-type": "application/json"})

    def stop(self) -> int:
        self.http.close()
        return self.process.stop()


class Chaos:
    """One test: its processes, its ledger, its seed."""

    def __init__(self, place: Bench, url: str, folder: Path, *, seed: int, name: str, full: bool) -> None:
        self.place = place
        self.url = url
        self.seed = seed
        self.full = full
        self.random = random.Random(f"{seed}:{name}")
        self.ledger = Ledger(folder / "ledger")
        self.folder = folder
        self.client = Client(url=url)
        self.checked = False
        self._gates = folder / "gates"
        self._gates.mkdir(exist_ok=True)
        self._connection: psycopg.Connection[Any] | None = None
        self._servers: list[Server] = []

    def pick(self, short: int, full: int) -> int:
        """How much: in `make test`, and in `make chaos`."""
        return full if self.full else short

    # -- processes ----------------------------------------------------------------------------------------------

    def worker(self, *arguments: str, **variables: str) -> Process:
        """Start a `goqueue worker`, and wait until a worker process of it runs."""
        process = self.begin_worker(*arguments, **variables)
        process.wait_for(r"worker +start ", WAIT_S)
        return process

    def begin_worker(self, *arguments: str, **variables: str) -> Process:
        """As `worker`, without waiting."""
        return self.place.start("worker", APP, *arguments, **variables)

    def server(self, **variables: str) -> Server:
        """Start a `goqueue server`, and wait until it listens."""
        server = Server(self.place.start("server", "--port", "0", **variables))
        self._servers.append(server)
        return server

    def runner_of(self, id: str) -> psutil.Process:
        """The process in which the last handler of a job has started."""
        return psutil.Process(self.ledger.find("start", id=id)[-1].pid)

    def kill(self, *processes: psutil.Process | Process) -> None:
        """``kill -9``, in this order, and wait until they are gone."""
        found = [psutil.Process(one.pid) if isinstance(one, Process) else one for one in processes]
        for one in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        for process in processes:
            if isinstance(process, Process):
                process.end()
        # A child of a live supervisor is waited for by that, not by us: a zombie is as good as gone.
        assert until(lambda: not any(lives(one) for one in found)), found

    def tree(self, process: Process) -> list[psutil.Process]:
        """A supervisor, then its worker processes and theirs."""
        root = psutil.Process(process.pid)
        return [root, *root.children(recursive=True)]

    @contextlib.contextmanager
    def stopped(self, processes: Sequence[psutil.Process]) -> Iterator[None]:
        """SIGSTOP, and at the end of the block SIGCONT."""
        try:
            for one in processes:
                with contextlib.suppress(psutil.NoSuchProcess):  # a child may end at any time
                    one.suspend()
            yield
        finally:
            for one in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.resume()

    def open_gate(self, name: str) -> None:
        (self._gates / name).touch()

    # -- enqueue ------------------------------------------------------------------------------------------------

    def jobs(
        self, kind: str, count: int = 1, *, options: dict[str, Any] | None = None, **args: Any
    ) -> list[NewJob[Any]]:
        """Jobs with ids of their own, so that one whose answer is lost can be named."""
        job: NewJob[Any] = NewJob(kind=kind, args=json.dumps(args).encode(), **(options or {}))
        return [job.options(id=new_id()) for _ in range(count)]

    def submit(self, jobs: Sequence[NewJob[Any]], send: Send) -> list[str]:
        """Enqueue by ``send``, which returns the ids in the store's answer; logged before and after.

        What it raises is logged as `refused` (a definite no) or `failed` (nobody knows), and raised again.
        """
        for job in jobs:
            self.ledger.write("sent", id=job.id, kind=job.kind)
        try:
            answers = list(send(jobs))
        except BaseException as error:
            self._log_all("refused" if isinstance(error, InvalidInput | Conflict) else "failed", jobs, error)
            raise
        assert len(answers) == len(jobs)
        for job, answer in zip(jobs, answers, strict=True):
            if answer == job.id:
                self.ledger.write("acknowledged", id=answer)
            else:
                self.ledger.write("answered", id=job.id, holder=answer)  # a unique key's holder
        return answers

    def _log_all(self, event: str, jobs: Sequence[NewJob[Any]], error: BaseException) -> None:
        for job in jobs:
            self.ledger.write(event, id=job.id, error=repr(error))

    def enqueue(self, kind: str, count: int = 1, *, options: dict[str, Any] | None = None, **args: Any) -> list[str]:
        """Enqueue ``count`` jobs by the library; ``options`` are fields of `NewJob`. Their ids."""
        ids: list[str] = []
        jobs = self.jobs(kind, count, options=options, **args)
        for at in range(0, count, BATCH):
            ids += self.submit(jobs[at : at + BATCH], self.send)
        return ids

    def enqueue_one(self, kind: str, *, options: dict[str, Any] | None = None, **args: Any) -> str:
        return self.enqueue(kind, options=options, **args)[0]

    def send(self, jobs: Sequence[NewJob[Any]]) -> list[str]:
        return [job.id for job in self.client.enqueue_many(jobs)]

    @contextlib.contextmanager
    def flow(
        self, kind: str, *, send: Send | None = None, every_s: float = 0.02, per_batch: int = 5, **args: Any
    ) -> Iterator[list[str]]:
        """Enqueue again and again until the block ends. The list grows by the ids that were acknowledged.

        A store that is away is what some tests are about: then it goes on.
        """
        acknowledged: list[str] = []
        errors: list[Exception] = []
        end = threading.Event()

        def run() -> None:
            while not end.is_set():
                try:
                    acknowledged.extend(self.submit(self.jobs(kind, per_batch, **args), send or self.send))
                except (Unavailable, httpx.TransportError):
                    pass
                except Exception as error:
                    errors.append(error)
                    return
                end.wait(every_s)

        thread = threading.Thread(target=run, name="flow", daemon=True)
        thread.start()
        try:
            yield acknowledged
        finally:
            end.set()
            thread.join(WAIT_S)
            assert not thread.is_alive(), "an enqueue does not end"
            if errors:
                raise errors[0]

    # -- conditions ---------------------------------------------------------------------------------------------

    def wait(self, condition: Callable[[], object], what: str, timeout_s: float = WAIT_S) -> None:
        assert until(condition, timeout_s), f"not in {timeout_s:g} s: {what} (seed {self.seed})"

    def wait_started(self, id: str, attempt: int = 1) -> None:
        self.wait(lambda: self.ledger.find("start", id=id, attempt=attempt), f"attempt {attempt} of {id} starts")

    def wait_starts(self, id: str, count: int) -> None:
        self.wait(lambda: len(self.ledger.find("start", id=id)) >= count, f"{id} starts {count} times")

    def wait_ended(self, id: str, attempt: int = 1) -> None:
        self.wait(lambda: self.ledger.find("end", id=id, attempt=attempt), f"attempt {attempt} of {id} ends")

    def settle(self, *, besides: Iterable[str] = (), timeout_s: float | None = None) -> None:
        """Wait until every acknowledged job is final, but for ``besides``."""
        timeout_s = timeout_s or (WAIT_FULL_S if self.full else WAIT_S)
        left: set[str] = {entry.id for entry in self.ledger.find("acknowledged")} - set(besides)

        def none_left() -> bool:
            left.difference_update(row[0] for row in self.sql("SELECT id::text FROM goqueue.job_history"))
            return not left

        done = until(none_left, timeout_s, 0.05)
        assert done, (
            f"{len(left)} jobs are not final after {timeout_s:g} s, as {self.row(next(iter(left)))} (seed {self.seed})"
        )

    # -- what the store says, by plain SQL ----------------------------------------------------------------------

    def sql(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Run one statement on a connection of the harness's own, past any proxy."""
        for last_try in (False, True):
            if self._connection is None or self._connection.closed:
                self._connection = psycopg.connect(self.url, autocommit=True, connect_timeout=10)
            try:
                cursor = self._connection.execute(statement.encode(), parameters or None)
                return cursor.fetchall() if cursor.description else []
            except psycopg.OperationalError:
                self._connection.close()
                if last_try:
                    raise
        raise AssertionError

    def row(self, id: str) -> dict[str, Any]:
        """A job's row, wherever it is; empty if nowhere. ``final`` says whether it is in the history."""
        for table in ("job", "job_history"):
            for (row,) in self.sql(f"SELECT to_jsonb(j) FROM goqueue.{table} AS j WHERE id = %s", id):  # noqa: S608
                return {**row, "final": table == "job_history"}
        return {}

    def is_final(self, id: str) -> bool:
        return bool(self.sql("SELECT 1 FROM goqueue.job_history WHERE id = %s", id))

    def moves(self, id: str) -> list[Move]:
        """What happened to a job, by the trail, progress and other changes left out."""
        steps = [trail.Step(*row) for row in self.sql(trail.READ_ONE, id)]
        return [move for move in moves(steps) if move.kind is not Kind.CHANGE]

    def story(self, id: str) -> list[str]:
        """As `moves`, but only what each was: ``["enqueue", "claim", "sweep", …]``."""
        return [str(move.kind) for move in self.moves(id)]

    def clock(self) -> datetime:
        """The store's."""
        now: datetime = self.sql("SELECT clock_timestamp()")[0][0]
        return now

    # -- the end ------------------------------------------------------------------------------------------------

    def violations(self, allowed: Allowed | None = None) -> list[Violation]:
        return check(self.ledger.entries(), trail.look(self.url), allowed)

    def check(
        self,
        *,
        open: Iterable[str] = (),
        vanished: Iterable[str] = (),
        hung: Iterable[str] = (),
        edited: Iterable[str] = (),
    ) -> None:
        """Hold all laws. Call it when all is quiet; see `Allowed` for what a test may know better."""
        self.checked = True
        allowed = Allowed(open=set(open), vanished=set(vanished), hung=set(hung), edited=set(edited))
        found = self.violations(allowed)
        lines = [str(one) for one in found[:20]]
        assert not found, f"{len(found)} violations (seed {self.seed}):\n" + "\n".join(lines)

    def close(self) -> None:
        self.client.close()
        for server in self._servers:
            server.http.close()
        if self._connection is not None:
            self._connection.close()

    @property
    def jobs_sent(self) -> int:
        return len(self.ledger.find("sent"))


def lives(process: psutil.Process) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextlib.contextmanager
def chaos_on(
    url: str,
    folder: Path,
    *,
    seed: int,
    name: str,
    full: bool,
    traced: bool = False,
    variables: Mapping[str, str] | None = None,
) -> Iterator[Chaos]:
    """A Chaos on a database with the schema. A test that leaves a process running fails."""
    trail.install(url)
    paths = os.pathsep.join(map(str, (APPS, ROOT, ROOT / "src")))
    environment = {
        "GOQUEUE_URL": url,
        VARIABLE: str(folder / "ledger"),
        "GOQUEUE_TEST_GATES": str(folder / "gates"),
        "PYTHONPATH": paths,
        **SETTINGS,
        **(variables or {}),
    }
    with bench(APPS, **environment) as place:
        chaos = Chaos(place, url, folder, seed=seed, name=name, full=full)
        try:
            yield chaos
        finally:
            chaos.close()


def end_all(processes: Iterable[Process]) -> None:
    """Stop them all at once, and wait for each."""
    running = [process for process in processes if process.popen.poll() is None]
    for process in running:
        process.send(signal.SIGTERM)
    for process in running:
        assert process.end() == 0, process.output
