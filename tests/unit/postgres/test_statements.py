"""What statements are made of, and the pauses between two attempts to connect."""

from __future__ import annotations

import random
import re

from goqueue.model.job import NewJob, Unique
from goqueue.model.retry import RetryDelays
from goqueue.settings import Retention, StoreSettings
from goqueue.store.postgres import retention
from goqueue.store.postgres.signals import BACKOFF_MAX_S, pause_s
from goqueue.store.postgres.sql import names, text
from goqueue.store.postgres.verbs.enqueue import enqueue, sort
from goqueue.tasks.prepare import prepare


def new(**options: object) -> NewJob[object]:
    return prepare(NewJob(kind="k", args=b"{}", **options))  # type: ignore[arg-type]  # whatever fields NewJob has


def test_parts_take_the_parameters_of_their_statement() -> None:
    claim = text("claim")
    assert "($18::float8[])[h.ended - 2]" in claim
    assert "$20::float8 * power(2, least(j.crashes, 30))" in claim
    assert "l.name = $3::text AND l.holder = $4::text" in text("sweep_records")


def test_no_mark_and_no_gap_is_left_in_a_statement() -> None:
    for name in names():
        sql = text(name)
        assert "/*" not in sql, name
        used = {int(n) for n in re.findall(r"\$(\d+)", sql)}
        assert used == set(range(1, len(used) + 1)), name


def test_plain_jobs_keep_their_narrow_statements() -> None:
    assert next(enqueue([new()])).name == "enqueue_one"
    assert next(enqueue([new(), new()])).name == "enqueue"
    assert next(enqueue([new(), new()], may_fail=True)).name == "enqueue_new"
    assert next(enqueue([new(retry=RetryDelays())])).name == "enqueue_limited"
    assert next(enqueue([new(deadline_s=1.0), new(schedule_to_start_s=1.0)])).name == "enqueue_limited"
    assert next(enqueue([new(unique=Unique(key="k"), deadline_s=1.0)])).name == "enqueue_keyed"


def test_a_batch_is_sorted_by_its_statements() -> None:
    plain, limited, keyed = new(), new(deadline_s=1.0), new(unique=Unique(key="k"))
    places = sort([keyed, plain, limited, plain])
    assert (places.plain, places.limited, places.keyed, places.again) == ([1], [2], [0], [3])
    assert places.statements == 4
    assert sort([plain]).statements == 1


def test_retentions_of_a_queue_stand_for_what_it_does_not_name() -> None:
    settings = StoreSettings(
        completed_retention_s=1.0,
        cancelled_retention_s=2.0,
        dead_retention_s=None,
        queue_retention={"a": Retention(dead_s=0.0), "b": Retention(completed_s=5.0, dead_s=None)},
    )
    _, by_queue = retention.parameters(settings)
    assert by_queue == '{"a":[1.0,2.0,0.0],"b":[5.0,2.0,null]}'
    assert retention.every(settings) == {0.0, 1.0, 2.0, 5.0, None}
    assert retention.parameters(StoreSettings())[1] is None


def test_pauses_between_attempts_are_spread_over_all_of_their_bound() -> None:
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    for failures in (1, 3, 10, 10_000):
        pauses = [pause_s(failures, rng.random) for _ in range(500)]
        bound_s = min(BACKOFF_MAX_S, 0.1 * 2**failures) if failures < 100 else BACKOFF_MAX_S
        assert min(pauses) >= 0.01, f"seed {seed}"
        assert min(pauses) < bound_s * 0.1 < bound_s * 0.9 < max(pauses) <= bound_s, f"seed {seed}"
