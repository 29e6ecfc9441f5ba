"""`make mutate`, short: two guards drawn by a seed are dropped, and missed by the tests that they name."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from goqueue.cli.dev.embedded import EmbeddedPostgres
from scripts.mutation.guard import Guard
from scripts.mutation.guards import GUARDS
from scripts.mutation.run import AT_A_TIME, Result, Verdict, control, copied_package, try_guard

DROPPED = [guard for guard in GUARDS if not guard.equivalent]


@pytest.mark.slow
def test_a_guard_that_is_dropped_is_missed(postgres_server: EmbeddedPostgres) -> None:
    seed = random.randrange(2**32)
    chosen = random.Random(seed).sample(DROPPED, 2)
    with copied_package() as snapshot:
        assert control(chosen, snapshot, postgres_server.data_dir) == "", f"seed {seed}"

        def drop(guard: Guard) -> Result:
            return try_guard(guard, snapshot, postgres_server.data_dir, everything=False)

        with ThreadPoolExecutor(AT_A_TIME) as pool:
            results = list(pool.map(drop, chosen))
    told = [(result.guard.title, str(result.verdict), result.by) for result in results]
    assert [result.verdict for result in results] == [Verdict.KILLED] * 2, f"seed {seed}: {told}"


@pytest.mark.slow
def test_a_change_that_nobody_can_see_survives(postgres_server: EmbeddedPostgres) -> None:
    harmless = Guard("claim.sql", "nothing", "AS missed\n", "AS missed \n", "complete_keeps")
    with copied_package() as snapshot:
        result = try_guard(harmless, snapshot, postgres_server.data_dir, everything=False)
    assert result.verdict is Verdict.SURVIVED, result.by


@pytest.mark.slow
def test_a_change_that_makes_no_statement_proves_nothing(postgres_server: EmbeddedPostgres) -> None:
    broken = Guard("claim.sql", "nonsense", "AS missed\n", "AS AS missed\n", "complete_keeps")
    with copied_package() as snapshot:
        result = try_guard(broken, snapshot, postgres_server.data_dir, everything=False)
    assert result.verdict is Verdict.BROKEN
    assert "claim.sql is no statement any more" in result.by
