"""The memory store is the oracle: a store that was told the same things has to answer the same."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import hypothesis
import msgspec
import pytest
from hypothesis.stateful import run_state_machine_as_test

from goqueue.model.admin import Duty, Swept, Term
from goqueue.model.job import NewJob
from goqueue.model.outcome import Answer, Crash, Retry, Settlement
from goqueue.model.query import Enqueued
from goqueue.store.memory import MemoryStore
from tests.property.machine import StoreMachine
from tests.property.pair import Pair, TravellingStore
from tests.property.values import SETTINGS

HEALTH = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.filter_too_much]


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


def _compare(other: TravellingStore, runner: asyncio.Runner, *, examples: int, shrink: bool = True) -> None:
    class Machine(StoreMachine):
        @staticmethod
        def make_pair() -> Pair:
            return Pair(other, runner.run)

    phases = list(hypothesis.Phase) if shrink else [hypothesis.Phase.generate]
    run_state_machine_as_test(
        Machine,
        settings=hypothesis.settings(
            max_examples=examples,
            stateful_step_count=60,
            deadline=None,
            suppress_health_check=HEALTH,
            phases=[phase for phase in phases if phase is not hypothesis.Phase.explain],
            database=None,
        ),
    )


def test_the_model_keeps_its_own_law(runner: asyncio.Runner) -> None:
    _compare(MemoryStore(settings=SETTINGS), runner, examples=60)


class Unfenced(MemoryStore):
    async def settle(self, outcomes: Sequence[Settlement]) -> list[Answer]:
        rows = [self.memory.live.get((o.ref.tenant, o.ref.id)) for o in outcomes]
        fences = [o.fence if row is None else row.fence for row, o in zip(rows, outcomes, strict=True)]
        unfenced = [msgspec.structs.replace(o, fence=f) for o, f in zip(outcomes, fences, strict=True)]
        return await super().settle(unfenced)


class NeverDeposed(MemoryStore):
    async def sweep(self, duty: Duty, limit: int, term: Term | None = None) -> Swept:
        return await super().sweep(duty, limit)


class CrashesAtOnce(MemoryStore):
    async def settle(self, outcomes: Sequence[Settlement]) -> list[Answer]:
        retried = [
            msgspec.structs.replace(o, outcome=Retry(0.0, o.outcome.error)) if isinstance(o.outcome, Crash) else o
            for o in outcomes
        ]
        return await super().settle(retried)


class Forgetful(MemoryStore):
    async def enqueue(self, jobs: Sequence[NewJob[object]], retry: bool = False) -> list[Enqueued]:
        return await super().enqueue([msgspec.structs.replace(job, deadline_s=None) for job in jobs], retry)


@pytest.mark.parametrize("broken", [Unfenced, NeverDeposed, CrashesAtOnce, Forgetful])
def test_the_machine_finds_what_is_broken(runner: asyncio.Runner, broken: type[MemoryStore]) -> None:
    with pytest.raises(AssertionError, match=r"the stores differ|not the first of"):
        _compare(broken(settings=SETTINGS), runner, examples=300, shrink=False)


@pytest.mark.timeout(600)
def test_postgres_answers_as_the_model(database_url: str, runner: asyncio.Runner) -> None:
    from goqueue.store.postgres import PostgresStore

    store = PostgresStore(database_url, settings=SETTINGS)
    runner.run(store.migrate())
    runner.run(store.open())
    try:
        _compare(store, runner, examples=80)
    finally:
        runner.run(store.close())
