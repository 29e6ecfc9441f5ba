"""Clients after a fork: parent and child both go on, and neither disturbs the other."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from goqueue.model.errors import ClientClosed
from goqueue.testing import running_worker
from goqueue.wiring import AsyncClient, Client
from tests.support.database import POOLED
from tests.support.lives import DEADLINE_S, add, app, backends, in_fork, script, stored
from tests.support.processes import until


@pytest.fixture
def client(database_url: str) -> Iterator[Client]:
    with Client(app, database_url) as client:
        yield client


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


@pytest.mark.skipif(POOLED, reason="the server's processes are the pooler's, and outlive clients")
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
            with running_worker(app, database_url):
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
