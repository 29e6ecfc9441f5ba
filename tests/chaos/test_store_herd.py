"""Fault 17: hundreds of idle workers, a burst, and a database that comes back: no thundering herd."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pytest

from goqueue.cli.dev.embedded import EmbeddedPostgres
from tests.chaos.conftest import FULL, MakeChaos
from tests.chaos.harness import APPS, Chaos
from tests.support.database import bin_dir, prepare_template, temporary_database, temporary_folder
from tests.support.proxy import Proxy

POOL_MAX = 2
BESIDES = 2
"""Connections of a store outside its pool: one listens, and now and then one is made to test that it hears."""
WINDOW_S = 0.05
SHARE_MAX = 0.25
"""Of all workers that may call in one window, in most seconds. (Of calls that are spread evenly it is 0.05.)"""
TIMES_MAX = 5
"""So many times as many as if they were spread evenly may try to connect in one window."""
FEW = 8
"""So many may meet by chance, however few there are."""
BACK_S = 10.0
START_S = 200.0
"""Hundreds of workers on a machine of two processors take their time."""

# As in production, but for shorter leases: polls are what is looked at.
SETTINGS = {"GOQUEUE_WORKER_POLL_S": "1", "GOQUEUE_WORKER_LEASE_S": "15", "GOQUEUE_WORKER_BEAT_S": "5"}


@contextmanager
def roomy_database(server: EmbeddedPostgres, template: str) -> Iterator[str]:
    """A database; for hundreds of workers on a server that lets so many connect."""
    if not FULL:
        with temporary_database(server, template) as url:
            yield url
        return
    with (
        temporary_folder() as folder,
        EmbeddedPostgres(
            folder / "server", bin_dir=bin_dir(), durable=False, settings={"max_connections": "1000"}
        ) as own,
    ):
        prepare_template(own.url)
        yield own.url


class Crowd:
    """``count`` workers in a few processes."""

    def __init__(self, chaos: Chaos, count: int, processes: int, url: str) -> None:
        self.count = count
        self._processes = [
            subprocess.Popen(
                [sys.executable, str(APPS / "many_workers.py"), str(count // processes), url, str(POOL_MAX)],
                env=chaos.place.env,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for _ in range(processes)
        ]

    def alive(self) -> bool:
        return all(process.poll() is None for process in self._processes)

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()
        codes = [process.wait(60) for process in self._processes]
        assert set(codes) == {0}, codes

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


def busiest(times: Sequence[tuple[float, int]]) -> int:
    """How many different connections were used in the busiest window."""
    most = first = 0
    for last in range(len(times)):
        while times[last][0] - times[first][0] > WINDOW_S:
            first += 1
        most = max(most, len({link for _, link in times[first : last + 1]}))
    return most


def watch(chaos: Chaos, proxy: Proxy, seconds: int) -> tuple[float, float]:
    """Watch an idle crowd: the median over seconds of the busiest window's workers, and all calls a second."""
    proxy.trips.clear()
    proxy.recording = True
    began = time.monotonic()
    chaos.wait(lambda: time.monotonic() - began > seconds, "the time to watch is over", seconds + 30)
    proxy.recording = False
    trips = [(trip.at_s, trip.link) for trip in proxy.trips]
    each = [[t for t in trips if n <= t[0] - began < n + 1] for n in range(seconds)]
    return statistics.median(busiest(second) for second in each), len(trips) / seconds


@pytest.mark.postgres
def test_17_many_idle_workers(postgres_server: EmbeddedPostgres, database_template: str, make_chaos: MakeChaos) -> None:
    with ExitStack() as stack:
        url = stack.enter_context(roomy_database(postgres_server, database_template))
        chaos = stack.enter_context(make_chaos(url, **SETTINGS))
        proxy = stack.enter_context(Proxy(url))
        count = chaos.pick(20, 200)
        crowd = Crowd(chaos, count, chaos.pick(2, 8), proxy.url)
        stack.callback(crowd.close)
        together_max = max(FEW, SHARE_MAX * count)
        connections_max = count * (POOL_MAX + BESIDES)
        idle = "SELECT count(*) FROM goqueue.worker WHERE idle"
        chaos.wait(lambda: not crowd.alive() or chaos.sql(idle)[0][0] == count, "all are idle", START_S)

        def is_spread(when: str, *, tries: int = 1) -> None:
            for tries_left in reversed(range(tries)):
                together, each_s = watch(chaos, proxy, chaos.pick(2, 15))
                print(f"{when}: {together:g} connections used in {WINDOW_S} s, {each_s:.0f} calls/s,", end=" ")
                print(f"{proxy.connections} open (at most {proxy.connections_max})")
                # A scan and a claim for each poll at most, and the odd beat.
                if together <= together_max and each_s <= 4 * count:
                    return
                assert tries_left, f"{when}: {together} connections together, {each_s} calls/s (seed {chaos.seed})"

        if chaos.full:
            is_spread("idle from the start")
        chaos.enqueue("work", chaos.pick(200, 2_000), ms=5)
        chaos.settle()
        is_spread("after a burst")

        # The database goes away for a while, and all find it again.
        proxy.refusing = True
        proxy.reset_all()
        gone_at = time.monotonic()
        chaos.wait(lambda: time.monotonic() - gone_at > chaos.pick(2, 20), "the outage is over")
        tries = [at for at in proxy.connected_at if at > gone_at + 1]
        proxy.refusing = False
        back_at = time.monotonic()
        ids = chaos.enqueue("work", chaos.pick(20, 200))
        chaos.settle(timeout_s=BACK_S)
        print(f"back after {time.monotonic() - back_at:.1f} s; {len(tries)} tries to connect while there was none")
        after = [at for at in proxy.connected_at if at > back_at]
        evenly = len(tries) * WINDOW_S / max(0.1, back_at - gone_at - 1)
        for what, instants, at_most in (("away", tries, max(2 * FEW, TIMES_MAX * evenly)), ("back", after, count)):
            together = busiest([(at, n) for n, at in enumerate(sorted(instants))])
            print(f"{what}: at most {together} connect in {WINDOW_S} s")
            assert together <= max(2 * FEW, at_most), f"{what}: {together} connect together (seed {chaos.seed})"
        assert all(chaos.is_final(id) for id in ids)
        is_spread("after an outage", tries=5)  # everybody has just come back
        assert proxy.connections_max <= connections_max, proxy.connections_max
        assert crowd.alive()
        crowd.stop()
        chaos.check()
