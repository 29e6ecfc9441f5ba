"""The stored functions refuse what `prepare` refuses, field by field and bound by bound: the two must not drift."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from goqueue.model import limits
from goqueue.model.errors import InvalidInput, InvalidJob, StoreUnavailable
from goqueue.model.job import NewJob, OnConflict, Unique
from goqueue.model.retry import Jitter, RetryDelays
from goqueue.model.state import JobState
from goqueue.store.postgres import functions
from goqueue.store.postgres.states import of_state, translate
from goqueue.tasks.prepare import prepare

Db = psycopg.Connection[Any]


@pytest.fixture
def db(database_url: str) -> Iterator[Db]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def count(db: Db, table: str = "job") -> int:
    row = db.execute(sql.SQL("SELECT count(*) FROM goqueue.{}").format(sql.Identifier(table))).fetchone()
    assert row is not None
    return int(row[0])


# -- the same bounds as `prepare` --------------------------------------------------------------------------

LONG_S = limits.DELAY_S_MAX
EDGES: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
    "kind": ([{"kind": "k" * limits.KIND_CHARS_MAX}], [{"kind": "k" * (limits.KIND_CHARS_MAX + 1)}, {"kind": ""}]),
    "queue": (
        [{"queue": "é" * limits.NAME_CHARS_MAX}],
        [{"queue": "é" * (limits.NAME_CHARS_MAX + 1)}, {"queue": " q"}],
    ),
    "tenant": ([{"tenant": "a b"}], [{"tenant": "t" * (limits.NAME_CHARS_MAX + 1)}, {"tenant": "a\tb"}]),
    "group_key": (
        [{"group_key": "g" * limits.GROUP_KEY_CHARS_MAX}],
        [{"group_key": "g" * (limits.GROUP_KEY_CHARS_MAX + 1)}],
    ),
    "priority": (
        [{"priority": limits.PRIORITY_MIN}, {"priority": limits.PRIORITY_MAX}],
        [{"priority": limits.PRIORITY_MIN - 1}, {"priority": limits.PRIORITY_MAX + 1}, {"priority": 1.5}],
    ),
    "max_attempts": (
        [{"max_attempts": 1}, {"max_attempts": limits.MAX_ATTEMPTS_MAX}],
        [{"max_attempts": 0}, {"max_attempts": limits.MAX_ATTEMPTS_MAX + 1}],
    ),
    "max_crashes": (
        [{"max_crashes": 1}, {"max_crashes": limits.MAX_CRASHES_MAX}],
        [{"max_crashes": 0}, {"max_crashes": limits.MAX_CRASHES_MAX + 1}],
    ),
    "timeout_s": (
        [{"timeout_s": limits.TIMEOUT_S_MIN}, {"timeout_s": limits.TIMEOUT_S_MAX}],
        [{"timeout_s": limits.TIMEOUT_S_MIN / 2}, {"timeout_s": limits.TIMEOUT_S_MAX + 1}, {"timeout_s": True}],
    ),
    "delay_s": ([{"delay_s": 0}, {"delay_s": limits.DELAY_S_MAX}], [{"delay_s": -0.1}, {"delay_s": LONG_S + 1}]),
    "schedule_to_start_s": (
        [{"schedule_to_start_s": limits.DEADLINE_S_MIN}, {"schedule_to_start_s": limits.DEADLINE_S_MAX}],
        [{"schedule_to_start_s": limits.DEADLINE_S_MIN / 2}, {"schedule_to_start_s": limits.DEADLINE_S_MAX + 1}],
    ),
    "deadline_s": (
        [{"deadline_s": limits.DEADLINE_S_MIN}, {"deadline_s": limits.DEADLINE_S_MAX}],
        [{"deadline_s": 0}, {"deadline_s": limits.DEADLINE_S_MAX + 1}, {"deadline_s": 5, "delay_s": 5}],
    ),
    "run_at": (
        [{"run_at": limits.INSTANT_MIN}, {"run_at": limits.INSTANT_MAX}],
        [
            {"run_at": limits.INSTANT_MIN - timedelta(seconds=1)},
            {"run_at": limits.INSTANT_MAX + timedelta(seconds=1)},
            {"run_at": datetime(2030, 1, 1)},  # noqa: DTZ001  that is what is refused
            {"run_at": limits.INSTANT_MAX, "delay_s": 1.0},
        ],
    ),
    "args": (
        [
            {"args": b'{"a":"' + b"x" * (limits.ARGS_BYTES_MAX - 8) + b'"}'},
            {"args": b'{"a":' + b"[" * (limits.DEPTH_MAX - 1) + b"]" * (limits.DEPTH_MAX - 1) + b"}"},
            {"args": b'{"a":"' + b"[" * 500 + b'\\"{"}'},
            {"args": b'{"a":"\\\\u0000"}'},
            {"args": b'{"a":"\\ud83d\\ude00"}'},
        ],
        [
            {"args": b'{"a":"' + b"x" * (limits.ARGS_BYTES_MAX - 7) + b'"}'},
            {"args": b'{"a":' + b"[" * limits.DEPTH_MAX + b"]" * limits.DEPTH_MAX + b"}"},
            {"args": b"[]"},
            {"args": b'{"a":"\\u0000"}'},
            {"args": b'{"a":"\\ud800"}'},
        ],
    ),
    "tags": (
        [{"tags": ("t",) * limits.TAGS_MAX}, {"tags": ("t" * limits.TAG_CHARS_MAX,)}],
        [{"tags": ("t",) * (limits.TAGS_MAX + 1)}, {"tags": ("t" * (limits.TAG_CHARS_MAX + 1),)}, {"tags": ("",)}],
    ),
    "meta": (
        [
            {"meta": {str(n): "v" for n in range(limits.META_KEYS_MAX)}},
            {"meta": {"k" * limits.META_KEY_CHARS_MAX: "v" * limits.META_VALUE_CHARS_MAX}},
        ],
        [
            {"meta": {str(n): "v" for n in range(limits.META_KEYS_MAX + 1)}},
            {"meta": {"k" * (limits.META_KEY_CHARS_MAX + 1): ""}},
            {"meta": {"a/b~": "v" * (limits.META_VALUE_CHARS_MAX + 1)}},
            {"meta": {"k": 1}},
        ],
    ),
    "retry": (
        [
            {"retry": RetryDelays(base_s=LONG_S, cap_s=LONG_S, factor=limits.RETRY_FACTOR_MAX, retry_for_s=LONG_S)},
            {"retry": RetryDelays(delays_s=(1.0,) * limits.RETRY_DELAYS_MAX, jitter=Jitter.NONE)},
        ],
        [
            {"retry": RetryDelays(base_s=-1)},
            {"retry": RetryDelays(cap_s=LONG_S + 1)},
            {"retry": RetryDelays(factor=0.5)},
            {"retry": RetryDelays(factor=limits.RETRY_FACTOR_MAX + 1)},
            {"retry": RetryDelays(delays_s=(1.0,) * (limits.RETRY_DELAYS_MAX + 1))},
            {"retry": RetryDelays(delays_s=(LONG_S + 1,))},
            {"retry": RetryDelays(retry_for_s=LONG_S + 1)},
        ],
    ),
    "unique": (
        [
            {"unique": Unique(key="k" * limits.UNIQUE_KEY_CHARS_MAX)},
            {"unique": Unique(key="k", final_states=(JobState.DEAD,), window_s=limits.WINDOW_S_MAX)},
            {"unique": Unique(key="k", on_conflict=OnConflict.REPLACE, keep_run_at=True, until_started=True)},
        ],
        [
            {"unique": Unique(key="k" * (limits.UNIQUE_KEY_CHARS_MAX + 1))},
            {"unique": Unique(key="")},
            {"unique": Unique(key="k", final_states=(JobState.DEAD,), window_s=limits.WINDOW_S_MAX + 1)},
            {"unique": Unique(key="k", window_s=1)},
            {"unique": Unique(key="k", keep_run_at=True)},
            {"unique": Unique(key="k", final_states=(JobState.DEAD,), until_started=True)},
            {"unique": Unique(key="k", final_states=(JobState.RUNNING,))},
        ],
    ),
    "id": (
        [{"id": "019AA1b2-0000-7000-8000-000000000001"}],
        [{"id": "019aa1b2-0000-4000-8000-000000000001"}, {"id": "x"}],
    ),
}


def payload(job: NewJob[Any]) -> str:
    """What a client would send that checks nothing."""
    return functions.enqueue([job]).payload.replace('"digest":""', '"digest":null').replace('"id":"",', "")


@pytest.mark.parametrize("field", EDGES)
def test_each_bound_is_where_prepare_has_it(db: Db, field: str) -> None:
    fine, bad = EDGES[field]
    for fields in fine:
        job = NewJob[Any](**{"kind": "k"} | fields)
        prepare(job)
        db.execute("SELECT goqueue.enqueue_many_v1(%s)", [payload(job)])
    stored = count(db)
    for fields in bad:
        job = NewJob[Any](**{"kind": "k"} | fields)
        with pytest.raises(InvalidJob) as ours:
            prepare(job)
        with pytest.raises(psycopg.Error) as theirs:
            db.execute("SELECT goqueue.enqueue_many_v1(%s)", [payload(job)])
        error = translate(theirs.value)
        assert isinstance(error, InvalidJob), theirs.value
        wanted = ours.value.pointer
        if "\\u" in str(job.args):
            wanted = ""  # such a text is found before anything is read: the place is the job
        assert error.pointer in ("/0" + wanted, ("/0" + wanted).rpartition("/")[0]), fields
    assert count(db) == stored


def test_every_limit_of_a_job_is_among_these() -> None:
    """Who adds one has to add it here, and to the functions."""
    known = {name for name in vars(limits) if name.isupper() and name != "UTC"}
    source = "".join(file.read_text("utf-8") for file in Path(__file__).parent.glob("test_function*.py"))
    looked_at = {name for name in known if f"limits.{name}" in source}
    others = {
        "PRIORITY_DEFAULT", "MAX_ATTEMPTS_DEFAULT", "MAX_CRASHES_DEFAULT",  # test_the_defaults_are_those_of_a_new_job
        "ERRORS_KEPT_MAX", "ERROR_TYPE_CHARS_MAX", "ERROR_MESSAGE_CHARS_MAX", "ERROR_TRACEBACK_CHARS_MAX",
        "REASON_CHARS_MAX", "PROGRESS_BYTES_MAX", "WORKER_KEPT_S", "PAGE_SIZE_MAX", "PAGE_SIZE_DEFAULT", "CLAIM_MAX",
        "SETTLE_MAX", "COUNT_EXACT_MAX",
    }  # fmt: skip
    others |= {name for name in known if name.startswith(("LOG_", "LOGS_"))}
    assert known - looked_at - others == set()


def test_what_is_no_name_is_none_in_sql(db: Db) -> None:
    """Every character that Python knows: assigned later than Unicode 14, or not at all, it may be either."""
    db.execute("CREATE TEMP TABLE point (c text)")
    points = [
        chr(n)
        for n in range(1, sys.maxunicode + 1)
        if unicodedata.category(chr(n)) not in ("Cs", "Cn")
        and (n < 0x3000 or unicodedata.category(chr(n))[0] in "CZ" or n % 97 == 0)
    ]
    with db.cursor() as cursor:
        cursor.executemany("INSERT INTO point VALUES (%s)", [(point,) for point in points])
    db.execute("""
        CREATE FUNCTION pg_temp.passes(c text) RETURNS boolean LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM goqueue.check_text_v1(to_json('a' || c || 'b'), '', 1, 128, true);
            RETURN true;
        EXCEPTION WHEN SQLSTATE 'GQ001' THEN
            RETURN false;
        END $$""")
    passed = {row[0] for row in db.execute("SELECT c FROM point WHERE pg_temp.passes(c)").fetchall()}
    assert passed == {point for point in points if point.isprintable()}


@pytest.mark.parametrize(
    "run_at",
    [
        "2030-02-30T12:00:00Z",
        "2030-01-31T25:00:00Z",
        "2030-01-31T12:61:00Z",
        "2030-01-31T12:00:00+99:00",
        "0000-01-01T00:00Z",
    ],
)
def test_an_instant_is_one_of_the_calendar(db: Db, run_at: str) -> None:
    with pytest.raises(psycopg.Error) as refusal:
        db.execute(
            "SELECT goqueue.enqueue_many_v1(json_build_array(json_build_object('kind', 'k', 'run_at', %s::text)))",
            [run_at],
        )
    assert (refusal.value.sqlstate, refusal.value.diag.message_detail) == ("GQ001", "/0/run_at")


@pytest.mark.parametrize("number", ["1e100", "1E+0999", "1e-999", "1e999999999", "-1e131072"])
def test_a_number_too_large_for_any_type_is_refused_as_one(db: Db, number: str) -> None:
    with pytest.raises(psycopg.Error) as refusal:
        db.execute("SELECT goqueue.enqueue_many_v1(%s)", ['[{"kind": "k", "delay_s": ' + number + "}]"])
    assert (refusal.value.sqlstate, refusal.value.diag.message_detail) == ("GQ001", "/0/delay_s")


def test_a_partition_that_is_missing_is_no_fault_of_the_value() -> None:
    error = of_state("23514", 'no partition of relation "job_history" found for row')
    assert isinstance(error, StoreUnavailable)
    assert "goqueue db migrate" in str(error)
    assert isinstance(of_state("23514", "violates check constraint"), InvalidInput)
