"""Where clients live: each row of the table in docs/guides/sync_and_async.md is a test here, or names one."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from goqueue.model.errors import ClientClosed, ConfigurationError, WrongLoop
from goqueue.tasks.prepare import new_id
from goqueue.testing import running_worker
from goqueue.wiring import AsyncClient, Client
from tests.support.database import POOLED
from tests.support.lives import DEADLINE_S, add, app, backends, script, stored
from tests.support.processes import until


@pytest.fixture
def client(database_url: str) -> Iterator[Client]:
    with Client(app, database_url) as client:
        yield client


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

    with running_worker(app, database_url), ThreadPoolExecutor(16) as threads:
        assert list(threads.map(ask, range(64))) == [2 * number for number in range(64)]


async def test_the_sync_client_works_under_a_running_loop_and_blocks_it(client: Client, database_url: str) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    with running_worker(app, database_url):
        ticking = asyncio.create_task(tick())
        await asyncio.sleep(0)
        before = ticks
        assert client.enqueue(add.job(1)).result(timeout_s=DEADLINE_S) == 2
        assert ticks == before  # nothing else ran meanwhile
        in_thread = asyncio.to_thread(lambda: client.enqueue(add.job(2)).result(timeout_s=DEADLINE_S))
        assert await in_thread == 3
        assert ticks > before  # this is how to let it run
        ticking.cancel()


# -- loops --------------------------------------------------------------------------------------------


@pytest.mark.skipif(POOLED, reason="the server's processes are the pooler's, and outlive clients")
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


@pytest.mark.skipif(POOLED, reason="the server's processes are the pooler's, and outlive clients")
def test_a_context_manager_gives_all_connections_back(database_url: str) -> None:
    with Client(app, database_url) as client:
        client.enqueue(add.job(1))
        assert backends(database_url)
    assert until(lambda: not backends(database_url))


@pytest.mark.skipif(POOLED, reason="the server's processes are the pooler's, and outlive clients")
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
    "wait_all": lambda c: c.wait_all([]),
    "as_completed": lambda c: list(c.as_completed([])),
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
