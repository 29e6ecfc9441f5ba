"""Where clients live: each row of the table in docs/guides/sync_and_async.md is a test here, or names one."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from goqueue.model.errors import ClientClosed, ConfigurationError, WrongLoop
from goqueue.tasks.app import GoQueue
from goqueue.tasks.prepare import new_id
from goqueue.wiring import AsyncClient, Client
from tests.support.processes import until
from tests.support.workers import working

DEADLINE_S = 60.0
app = GoQueue()


@app.task
def add(a: int, b: int = 1) -> int:
    """Add."""
    return a + b


SCRIPT = """
import os
from goqueue import {client}, GoQueue

app = GoQueue()
client = {client}(app)  # opens nothing

@app.task
def add(a: int, b: int = 1) -> int:
    return a + b

"""


@pytest.fixture
def client(database_url: str) -> Iterator[Client]:
    with Client(app, database_url) as client:
        yield client


def script(url: str, folder: Path, text: str, *, client: str = "Client") -> subprocess.CompletedProcess[str]:
    """Run a script that has a client as a module global, with all warnings shown."""
    path = folder / "script.py"
    path.write_text(SCRIPT.format(client=client) + text)
    env = {name: value for name, value in os.environ.items() if not name.startswith("GOQUEUE_")}
    return subprocess.run(
        [sys.executable, "-W", "always", str(path)],
        env={**env, "GOQUEUE_URL": url},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        cwd=folder,
    )


def in_fork(work: Callable[[], object]) -> int:
    """Do ``work`` in a forked child; return its exit code: 0 if it raised nothing."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException as error:
            os.write(2, f"in the child: {error!r}\n".encode())
        finally:
            os._exit(code)
    return ended(pid)


def ended(pid: int) -> int:
    """Wait for a child, not for ever."""
    found: list[int] = []

    def look() -> bool:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            found.append(os.waitstatus_to_exitcode(status))
        return bool(done)

    if not until(look):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return -signal.SIGKILL
    return found[0]


def backends(url: str) -> set[int]:
    """The server's processes for GoQueue's connections to this database."""
    with psycopg.connect(url, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'goqueue'"
        )
        return {pid for (pid,) in rows}


def stored(url: str) -> list[str]:
    with Client(app, url) as other:
        return [job.id for job in other.iterate()]


# -- a script, threads, a running loop ----------------------------------------------------------------


def test_a_script_with_a_global_client_ends_at_once_and_silently(database_url: str, tmp_path: Path) -> None:
    began_s = time.monotonic()
    done = script(database_url, tmp_path, "print(client.enqueue(add.job(1)).id)\nclient.enqueue(add.job(2))\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split()[0] in stored(database_url)
    assert time.monotonic() - began_s < DEADLINE_S / 2  # no thread of the pool is waited for


def test_a_script_that_fails_ends_too(database_url: str, tmp_path: Path) -> None:
    done = script(database_url, tmp_path, "client.enqueue(add.job(1))\nraise SystemExit('no more')\n")
    assert (done.returncode, done.stderr) == (1, "no more\n")


def test_an_async_script_with_a_global_client_ends_silently(database_url: str, tmp_path: Path) -> None:
    text = "import asyncio\nasync def main():\n    print((await client.enqueue(add.job(1))).id)\nasyncio.run(main())\n"
    done = script(database_url, tmp_path, text, client="AsyncClient")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == stored(database_url)


def test_an_async_script_that_ends_while_its_pool_grows_ends(database_url: str, tmp_path: Path) -> None:
    text = """
import asyncio
async def main():
    await asyncio.gather(*(client.counts() for _ in range(30)))
for _ in range(8):
    asyncio.run(main())
"""
    done = script(database_url, tmp_path, text, client="AsyncClient")
    assert (done.returncode, done.stderr) == (0, "")


def test_threads_share_a_client(client: Client, database_url: str) -> None:
    def ask(number: int) -> int:
        return client.enqueue(add.job(number, number)).result(timeout_s=DEADLINE_S)

    with working(app, database_url), ThreadPoolExecutor(16) as threads:
        assert list(threads.map(ask, range(64))) == [2 * number for number in range(64)]


async def test_the_sync_client_works_under_a_running_loop_and_blocks_it(client: Client, database_url: str) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    with working(app, database_url):
        ticking = asyncio.create_task(tick())
        await asyncio.sleep(0)
        before = ticks
        assert client.enqueue(add.job(1)).result(timeout_s=DEADLINE_S) == 2
        assert ticks == before  # nothing else ran meanwhile
        in_thread = asyncio.to_thread(lambda: client.enqueue(add.job(2)).result(timeout_s=DEADLINE_S))
        assert await in_thread == 3
        assert ticks > before  # this is how to let it run
        ticking.cancel()


# -- forks --------------------------------------------------------------------------------------------


def test_parent_and_child_both_go_on_after_a_fork(client: Client, database_url: str) -> None:
    handle = client.enqueue(add.job(1))
    mine = backends(database_url)
    children = 4

    def child() -> None:
        client.enqueue(add.job(2))
        handle.record()
        client.close()

    for _ in range(children):
        assert in_fork(child) == 0
    assert mine <= backends(database_url), "a child ended a connection of its parent's"
    client.enqueue(add.job(3))
    assert mine & backends(database_url) == mine
    ids = stored(database_url)
    assert len(ids) == len(set(ids)) == children + 2


def test_what_a_child_collects_disturbs_nobody(client: Client, database_url: str) -> None:
    client.enqueue(add.job(1))
    mine = backends(database_url)

    def work() -> None:
        client.enqueue(add.job(2))
        client._left = None
        gc.collect()

    assert in_fork(work) == 0
    assert backends(database_url) == mine
    client.enqueue(add.job(3))
    assert backends(database_url) == mine


def test_a_forked_script_ends_silently(database_url: str, tmp_path: Path) -> None:
    text = """
client.enqueue(add.job(1))
pid = os.fork()
print(client.enqueue(add.job(2)).id, flush=True)
if pid:
    assert os.waitpid(pid, 0)[1] == 0
    client.enqueue(add.job(3))
"""
    done = script(database_url, tmp_path, text)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(set(done.stdout.split())) == 2
    assert len(stored(database_url)) == 4


def test_a_connection_ends_with_the_parent_though_a_child_lives(database_url: str, tmp_path: Path) -> None:
    """A child that merely kept its copies of the sockets would hold them open at the server."""
    text = """
import signal, time
client.enqueue(add.job(1))
pid = os.fork()
if pid == 0:
    os.close(1), os.close(2)
    time.sleep(300)
print(pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = script(database_url, tmp_path, text)
    child = int(done.stdout)
    try:
        assert done.returncode == -signal.SIGKILL
        assert until(lambda: not backends(database_url))
        os.kill(child, 0)  # it lives
    finally:
        os.kill(child, signal.SIGKILL)


def test_forks_while_other_threads_enqueue(client: Client, database_url: str) -> None:
    """Locks, the pool and the wake-ups may be in any state at the fork."""
    stop = threading.Event()
    accepted: list[str] = []

    def enqueue() -> None:
        while not stop.is_set():
            accepted.append(client.enqueue(add.job(1)).id)

    children, each = 12, 3
    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(enqueue) for _ in range(4)]
        try:
            codes = [in_fork(lambda: [client.enqueue(add.job(2)) for _ in range(each)]) for _ in range(children)]
        finally:
            stop.set()
        for future in running:
            future.result(DEADLINE_S)
    assert codes == [0] * children
    ids = stored(database_url)
    assert set(accepted) <= set(ids)
    assert len(ids) == len(set(ids)) == len(accepted) + children * each


def test_a_fork_while_a_thread_waits_for_a_result(client: Client, database_url: str) -> None:
    awaited = client.enqueue(add.job(1))
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(lambda: awaited.result(timeout_s=DEADLINE_S))
        assert until(lambda: client._waiter.busy)

        def child() -> None:
            assert not client._waiter.busy  # nobody waits here: that thread is the parent's
            with working(app, database_url):
                assert client.enqueue(add.job(40, 2)).result(timeout_s=DEADLINE_S) == 42

        assert in_fork(child) == 0
        assert waiting.result(DEADLINE_S) == 2


def test_a_closed_client_is_closed_in_the_child_too(client: Client) -> None:
    client.close()

    def child() -> None:
        with pytest.raises(ClientClosed):
            client.enqueue(add.job(1))

    assert in_fork(child) == 0


def _in_pool(number: int) -> str:
    return GLOBAL.enqueue(add.job(number)).id


GLOBAL: Client


def test_children_of_multiprocessing_and_preforking_servers(client: Client, database_url: str) -> None:
    """What gunicorn --preload does: the application, and its client, are made and used before the fork."""
    global GLOBAL
    GLOBAL = client
    client.enqueue(add.job(1))
    mine = backends(database_url)
    with multiprocessing.get_context("fork").Pool(3) as pool:
        ids = pool.map(_in_pool, range(12), chunksize=1)
    assert len(set(ids)) == 12
    client.enqueue(add.job(2))
    assert mine <= backends(database_url)
    assert set(ids) < set(stored(database_url))


async def test_an_async_client_in_a_forked_child_opens_on_the_childs_loop(database_url: str) -> None:
    async with AsyncClient(app, database_url) as client:
        await asyncio.gather(*(client.enqueue(add.job(1)) for _ in range(20)))
        mine = backends(database_url)
        under_way = [asyncio.create_task(client.enqueue(add.job(2))) for _ in range(20)]
        await asyncio.sleep(0)  # some are in the store, others wait to be gathered

        async def child() -> None:
            assert await asyncio.gather(*(client.enqueue(add.job(3)) for _ in range(20)))
            await client.close()

        assert in_fork(lambda: asyncio.run(child())) == 0
        await asyncio.gather(*under_way)
        await client.enqueue(add.job(4))
        assert mine <= backends(database_url)
    ids = stored(database_url)
    assert len(ids) == len(set(ids)) == 61


# -- loops --------------------------------------------------------------------------------------------


def test_a_second_loop_after_the_first_is_closed_opens_anew(database_url: str) -> None:
    client = AsyncClient(app, database_url)

    async def use() -> set[int]:
        await asyncio.gather(*(client.enqueue(add.job(1)) for _ in range(30)))
        return backends(database_url)

    first = asyncio.run(use())
    assert first
    second = asyncio.run(use())
    assert second - first  # connections of its own
    assert until(lambda: not first & backends(database_url)), "connections of the closed loop are still open"
    asyncio.run(client.close())
    assert until(lambda: not backends(database_url))
    with pytest.raises(ClientClosed):
        asyncio.run(use())


def test_a_second_loop_while_the_first_is_open_is_wrong(database_url: str) -> None:
    client = AsyncClient(app, database_url)
    with asyncio.Runner() as first, asyncio.Runner() as second:
        handle = first.run(client.enqueue(add.job(1)))
        for call in (client.enqueue(add.job(2)), client.counts(), handle.record(), handle.result(), client.close()):
            with pytest.raises(WrongLoop, match="one AsyncClient for each loop") as wrong:
                second.run(call)
            assert wrong.value.code == "wrong_loop"
        first.run(client.enqueue(add.job(3)))
        first.run(client.close())
        with pytest.raises(ClientClosed):
            second.run(client.enqueue(add.job(4)))
    assert len(stored(database_url)) == 2


def test_what_could_not_be_opened_belongs_to_no_loop() -> None:
    client = AsyncClient(app, "mysql://127.0.0.1/x")
    with asyncio.Runner() as first, asyncio.Runner() as second:
        for runner in (first, second, first):
            with pytest.raises(ConfigurationError):
                runner.run(client.counts())
        second.run(client.close())


def test_threads_with_loops_of_their_own_need_clients_of_their_own(database_url: str) -> None:
    client = AsyncClient(app, database_url)

    async def use(one: AsyncClient) -> str:
        return (await one.enqueue(add.job(1))).id

    async def main() -> None:
        await use(client)
        with pytest.raises(WrongLoop):
            await asyncio.to_thread(lambda: asyncio.run(use(client)))

        async def own() -> str:
            async with AsyncClient(app, database_url) as mine:
                return await use(mine)

        assert await asyncio.to_thread(lambda: asyncio.run(own()))
        await client.close()

    asyncio.run(main())


# -- open, closed, dropped ----------------------------------------------------------------------------


def test_nothing_is_opened_by_making_a_client() -> None:
    before = threading.active_count()
    clients = [Client(app, "postgresql://nobody@127.0.0.1:1/x"), AsyncClient(app, "postgresql://nobody@127.0.0.1:1/x")]
    assert threading.active_count() == before
    del clients


def test_a_context_manager_gives_all_connections_back(database_url: str) -> None:
    with Client(app, database_url) as client:
        client.enqueue(add.job(1))
        assert backends(database_url)
    assert until(lambda: not backends(database_url))


def test_a_client_that_is_dropped_gives_its_connections_back(database_url: str) -> None:
    client = Client(app, database_url)
    client.enqueue(add.job(1))
    assert backends(database_url)
    del client
    gc.collect()
    assert until(lambda: not backends(database_url))


CALLS: dict[str, Callable[[Client], object]] = {
    "enqueue": lambda c: c.enqueue(add.job(1)),
    "enqueue_many": lambda c: c.enqueue_many([add.job(1)]),
    "get": lambda c: c.get(new_id()),
    "find": lambda c: c.find(),
    "iterate": lambda c: list(c.iterate()),
    "counts": lambda c: c.counts(),
    "cancel": lambda c: c.cancel(new_id()),
    "retry": lambda c: c.retry(new_id()),
    "delete": lambda c: c.delete(new_id()),
    "cancel_many": lambda c: c.cancel_many(kinds=["add"]),
    "delete_many": lambda c: c.delete_many(kinds=["add"], states=["dead"]),
    "retry_many": lambda c: c.retry_many(kinds=["add"]),
    "with": lambda c: c.__enter__(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_closed_client_says_so(database_url: str, call: Callable[[Client], object]) -> None:
    client = Client(app, database_url)
    client.close()
    client.close()
    with pytest.raises(ClientClosed, match="make a new one") as closed:
        call(client)
    assert closed.value.code == "client_closed"


def test_every_method_of_the_client_is_among_those(client: Client) -> None:
    public = {name for name in dir(client) if not name.startswith("_")}
    assert public - {"close", "read", "result_of"} == set(CALLS) - {"with"}  # read and result_of are for handles


def test_handles_of_a_closed_client_say_so(client: Client) -> None:
    job = client.enqueue(add.job(1))
    client.close()
    for call in (job.record, job.state, job.result, job.cancel, job.retry, job.delete):
        with pytest.raises(ClientClosed):
            call()
    with pytest.raises(ClientClosed):
        client.enqueue(add.job(1), conn=object())
