"""The stored functions: they refuse what `prepare` refuses, agree with it on keys, and have their caller's rights."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql

from goqueue.model import limits
from goqueue.model.errors import InvalidJob
from goqueue.model.job import NewJob, Unique
from goqueue.store.postgres import functions
from goqueue.store.postgres.states import translate
from goqueue.tasks.codec import canonical
from goqueue.tasks.prepare import new_id, prepare, unique_digest

Db = psycopg.Connection[Any]


@pytest.fixture
def db(database_url: str) -> Iterator[Db]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def enqueue(db: Db, jobs: object) -> list[tuple[Any, ...]]:
    return db.execute("SELECT * FROM goqueue.enqueue_many_v1(%s)", [json.dumps(jobs)]).fetchall()


def count(db: Db, table: str = "job") -> int:
    row = db.execute(sql.SQL("SELECT count(*) FROM goqueue.{}").format(sql.Identifier(table))).fetchone()
    assert row is not None
    return int(row[0])


def refused(db: Db, jobs: object) -> tuple[str, str]:
    """The pointer and the problem that the function tells."""
    with pytest.raises(psycopg.Error) as caught:
        enqueue(db, jobs)
    error = translate(caught.value)
    assert isinstance(error, InvalidJob), caught.value
    return error.pointer, error.detail


# -- plain SQL ------------------------------------------------------------------------------------------


def test_one_job_with_nothing_but_a_kind(db: Db) -> None:
    row = db.execute("SELECT id::text, status, created_at, run_at FROM goqueue.enqueue_v1('mail')").fetchone()
    assert row is not None
    assert row[1] == "inserted"
    assert row[2] == row[3]
    stored = db.execute(
        "SELECT id::text, kind, args::text, queue, priority, max_attempts, max_crashes, tenant, group_key, flags, tags,"
        " meta FROM goqueue.job"
    ).fetchone()
    assert stored == (row[0], "mail", "{}", "default", 5, 20, 3, "default", "", 0, None, None)


def test_the_defaults_are_those_of_a_new_job(db: Db) -> None:
    plain = NewJob[object](kind="k", id=new_id())
    enqueue(db, [{"kind": "k"}])
    db.execute("SELECT goqueue.enqueue_v1('k')")
    db.execute("SELECT * FROM goqueue.enqueue_many_v1(%s)", [functions.enqueue([plain]).payload])
    row = db.execute(
        "SELECT count(DISTINCT (to_jsonb(j) - 'id' - 'created_at' - 'run_at')::text) FROM goqueue.job AS j"
    ).fetchone()
    assert row == (1,)


def test_a_batch_keeps_its_order_and_its_ids_sort_so(db: Db) -> None:
    rows = enqueue(db, [{"kind": "k", "args": {"n": n}} for n in range(1_000)])
    ids = [str(row[0]) for row in rows]
    assert ids == sorted(ids)
    stored = db.execute("SELECT args ->> 'n' FROM goqueue.job ORDER BY id").fetchall()
    assert [int(row[0]) for row in stored] == list(range(1_000))
    assert {id[14] for id in ids} == {"7"}
    assert {id[19] for id in ids} <= set("89ab")


def test_an_id_of_its_own_making_carries_its_instant(db: Db) -> None:
    at = datetime(2031, 5, 6, 7, 8, 9, 123_456, tzinfo=UTC)
    row = db.execute("SELECT goqueue.new_id_v1(%s)::text", [at]).fetchone()
    assert row is not None
    assert int(row[0].replace("-", "")[:12], 16) == int(at.timestamp() * 1000)


def test_a_bad_item_stores_nothing(db: Db) -> None:
    assert refused(db, [{"kind": "a"}, {"kind": "b", "priority": 10}])[0] == "/1/priority"
    assert count(db) == 0


@pytest.mark.parametrize("jobs", [{}, None, 1, "x"])
def test_what_is_no_list_is_refused(db: Db, jobs: object) -> None:
    assert refused(db, jobs) == ("", "must be a JSON array of jobs")


def test_more_than_a_batch_is_refused(db: Db) -> None:
    assert str(limits.BATCH_MAX) in refused(db, [{"kind": "a"}] * (limits.BATCH_MAX + 1))[1]
    assert len(enqueue(db, [{"kind": "a"}] * limits.BATCH_MAX)) == limits.BATCH_MAX


def test_from_a_trigger_it_is_part_of_what_triggers_it(db: Db) -> None:
    db.execute("CREATE TABLE shop_order (id int)")
    db.execute("""
        CREATE FUNCTION order_placed() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM goqueue.enqueue_v1('confirm', json_build_object('order', NEW.id), tags => ARRAY['shop']);
            RETURN NEW;
        END $$""")
    db.execute("CREATE TRIGGER placed AFTER INSERT ON shop_order FOR EACH ROW EXECUTE FUNCTION order_placed()")
    with db.transaction(force_rollback=True):
        db.execute("INSERT INTO shop_order VALUES (1)")
        assert count(db) == 1
    assert count(db) == 0
    db.execute("INSERT INTO shop_order VALUES (2)")
    assert db.execute("SELECT kind, args ->> 'order', tags FROM goqueue.job").fetchall() == [("confirm", "2", ["shop"])]


def test_a_key_can_be_true_a_text_or_an_object(db: Db) -> None:
    job = {"kind": "k", "args": {"a": 1}}
    answers = [
        enqueue(db, [job | {"unique": unique}])[0]
        for unique in (True, True, "key", {"key": "key", "on_conflict": "reject"}, False, None)
    ]
    statuses = ["inserted", "duplicate", "inserted", "rejected", "inserted", "inserted"]
    assert [row[1] for row in answers] == statuses
    assert answers[3][0] == answers[2][0]


def test_two_lists_with_the_same_keys_in_other_orders_do_not_deadlock(db: Db, database_url: str) -> None:
    keyed = [{"kind": "k", "unique": f"key {n}"} for n in range(50)]
    failed: list[BaseException] = []

    def run(jobs: list[dict[str, str]]) -> None:
        try:
            with psycopg.connect(database_url) as connection:
                for _ in range(5):
                    enqueue(connection, jobs)
                    connection.commit()
                    connection.execute("DELETE FROM goqueue.job")
                    connection.execute("DELETE FROM goqueue.job_key")
                    connection.commit()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(jobs,)) for jobs in (keyed, keyed[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not [error for error in failed if isinstance(error, psycopg.errors.DeadlockDetected)], failed


# -- keys by arguments -------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


def test_a_key_by_arguments_is_the_same_in_sql_and_in_python(db: Db) -> None:
    @settings(max_examples=300)
    @given(args=st.dictionaries(TEXT, VALUES, max_size=5), escaped=st.booleans(), indent=st.sampled_from([None, 1]))
    def agree(args: dict[str, Any], escaped: bool, indent: int | None) -> None:
        raw = json.dumps(args, ensure_ascii=escaped, indent=indent)
        row = db.execute(
            "SELECT goqueue.canonical_v1(%s::json, ''), goqueue.key_digest_v1('k', %s, '{}', '')", [raw, raw]
        )
        found = row.fetchone()
        assert found is not None
        assert found[0].encode() == canonical(raw.encode())
        job = NewJob[Any](kind="k", args=raw.encode(), unique=Unique())
        assert bytes(found[1]) == unique_digest(job)

    agree()


@pytest.mark.parametrize(
    "raw", ['{"a":-0}', '{"a":1,"a":2}', '{"b":{"x":1},"b":{"y":"\\u00e9\\/"}}', '{"é":1,"z":2,"Z":3}']
)
def test_canonical_json_of_odd_documents(db: Db, raw: str) -> None:
    row = db.execute("SELECT goqueue.canonical_v1(%s::json, '')", [raw]).fetchone()
    assert row == (canonical(raw.encode()).decode(),)


def test_a_job_of_sql_and_one_of_python_are_duplicates_of_each_other(db: Db) -> None:
    job = prepare(NewJob[Any](kind="k", args=b'{"b":[1,{"y":null}],"a":"\xc3\xa9"}', unique=Unique()))
    (first,) = enqueue(db, [{"kind": "k", "args": {"a": "é", "b": [1, {"y": None}]}, "unique": True}])
    (second,) = db.execute("SELECT * FROM goqueue.enqueue_many_v1(%s)", [functions.enqueue([job]).payload]).fetchall()
    assert (second[0], second[1]) == (first[0], "duplicate")


@pytest.mark.parametrize("number", [1.5, 1e300])
def test_fractions_need_a_key_of_their_own(db: Db, number: float) -> None:
    job = {"kind": "k", "args": {"a": [number]}}
    pointer, problem = refused(db, [{"kind": "other"}, job | {"unique": True}])
    assert (pointer, "key of its own" in problem) == ("/1/unique", True)
    assert count(db) == 0
    assert enqueue(db, [job | {"unique": "mine"}])[0][1] == "inserted"


# -- completing ---------------------------------------------------------------------------------------------


def running(db: Db) -> str:
    (row,) = enqueue(db, [{"kind": "k", "unique": "key"}])
    db.execute("UPDATE goqueue.job SET state = 1, fence = 1, attempt = 1, attempted_at = now() WHERE id = %s", [row[0]])
    return str(row[0])


def test_a_partition_that_is_missing_is_made_by_the_owner(db: Db) -> None:
    job = running(db)
    row = db.execute("SELECT goqueue.complete_v1(%s, 1, retention_s => 259200000)", [job]).fetchone()
    assert row == ("applied",)
    found = db.execute("SELECT expires_on - finished_at::date FROM goqueue.job_history WHERE id = %s", [job]).fetchone()
    assert found is not None
    assert found[0] in (3_000, 3_001)


def test_for_ever_and_not_at_all(db: Db) -> None:
    for kept_s, rows in ((None, 1), (0, 1)):
        job = running(db)
        assert db.execute("SELECT goqueue.complete_v1(%s, 1, NULL, %s)", [job, kept_s]).fetchone() == ("applied",)
        assert (count(db), count(db, "job_history"), count(db, "job_key")) == (0, rows, 0)


@pytest.mark.parametrize("result", ['{"a":"\\u0000"}', json.dumps("x" * limits.RESULT_BYTES_MAX)])
def test_a_result_that_cannot_be_kept_is_refused(db: Db, result: str) -> None:
    job = running(db)
    with pytest.raises(psycopg.Error, match="/result"):
        db.execute("SELECT goqueue.complete_v1(%s, 1, %s)", [job, result])
    assert count(db) == 1


@pytest.mark.parametrize("retention_s", ["'nan'", "-1", "320000001", "'infinity'"])
def test_how_long_it_is_kept_has_bounds(db: Db, retention_s: str) -> None:
    job = running(db)
    with pytest.raises(psycopg.Error, match="for ever") as refusal:
        db.execute(f"SELECT goqueue.complete_v1('{job}', 1, NULL, {retention_s})")
    assert (refusal.value.sqlstate, refusal.value.diag.message_detail) == ("GQ001", "/retention_s")
    assert count(db) == 1


@pytest.mark.parametrize(
    "pointer, said",
    [
        ("/progress", {"progress": "x" * limits.PROGRESS_BYTES_MAX}),
        ("/progress", {"progress": "\0"}),
        ("/logs", {"logs": {}}),
        ("/logs", {"logs": [{"n": 1, "level": "info", "message": ""}] * 101}),
        ("/logs", {"logs": [{"n": 1, "level": "info", "message": "\0"}]}),
        ("/logs/0", {"logs": ["line"]}),
        ("/logs/0/level", {"logs": [{"n": 1, "level": "loud", "message": ""}]}),
        ("/logs/0/n", {"logs": [{"n": 0, "level": "info", "message": ""}]}),
        ("/logs/0/age_s", {"logs": [{"n": 1, "level": "info", "message": "", "age_s": -1}]}),
        ("/logs/1/message", {"logs": [{"n": n, "level": "info", "message": "m" * (999 + n)} for n in (1, 2)]}),
    ],
)
def test_what_cannot_be_said_is_refused(db: Db, pointer: str, said: dict[str, object]) -> None:
    job = running(db)
    with pytest.raises(psycopg.Error) as refusal:
        db.execute(
            "SELECT goqueue.complete_v1(%s, 1, progress => %s, logs => %s)",
            [job, *(json.dumps(said[name]) if name in said else None for name in ("progress", "logs"))],
        )
    assert (refusal.value.sqlstate, refusal.value.diag.message_detail) == ("GQ001", pointer)


def test_a_snapshot_that_is_older_than_the_claim_is_told_so(db: Db, database_url: str) -> None:
    with psycopg.connect(database_url) as other:
        other.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        other.execute("SELECT FROM goqueue.job")
        job = running(db)
        with pytest.raises(psycopg.Error, match="lease lost") as lost:
            other.execute("SELECT goqueue.complete_v1(%s, 1)", [job])
        assert "READ COMMITTED" in (lost.value.diag.message_hint or "")
    with pytest.raises(psycopg.Error, match="lease lost") as lost:
        db.execute("SELECT goqueue.complete_v1(%s, 2)", [job])
    assert "READ COMMITTED" not in (lost.value.diag.message_hint or "")


def test_settings_of_the_session_change_nothing(db: Db) -> None:
    for statement in (
        "SET standard_conforming_strings = off",
        "SET escape_string_warning = off",
        "SET extra_float_digits = -15",
    ):
        db.execute(statement)
    jobs = [{"kind": "k", "timeout_s": 1234.5, "unique": True, "args": {"a": "b"}}]
    enqueue(db, jobs)
    db.execute("SELECT goqueue.enqueue_v1('k', timeout_s => 1234.5, id => NULL)")
    db.execute("RESET extra_float_digits")
    assert db.execute("SELECT DISTINCT timeout_s FROM goqueue.job").fetchall() == [(1234.5,)]


# -- rights -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "access, may_enqueue, may_complete",
    [("enqueuer", True, False), ("worker", True, True), ("reader", False, False)],
)
async def test_they_run_with_the_rights_of_their_caller(
    db: Db, database_url: str, access: str, may_enqueue: bool, may_complete: bool
) -> None:
    from goqueue.settings import StoreSettings
    from goqueue.store.postgres.grants import grant

    role = f"r_{new_id().replace('-', '')[12:]}"
    db.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
    try:
        await grant(database_url, StoreSettings(), role, access, dry_run=False)
        job = running(db)
        for allowed, statement in (
            (may_enqueue, "SELECT goqueue.enqueue_v1('k', '{}', \"unique\" => '\"other\"')"),
            (
                may_enqueue,
                'SELECT goqueue.enqueue_v1(\'k\', "unique" => \'{"key": "other", "on_conflict": "replace"}\')',
            ),
            (may_complete, f"SELECT goqueue.complete_v1('{job}', 1)"),
        ):
            db.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
            if allowed:
                db.execute(statement)
            else:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    db.execute(statement)
            db.execute("RESET ROLE")
        if may_complete:  # but the schema, and with it a partition, is its owner's
            job = running(db)
            db.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
            with pytest.raises(psycopg.Error, match="goqueue db migrate") as missing:
                db.execute("SELECT goqueue.complete_v1(%s, 1, NULL, 259200000)", [job])
            assert missing.value.sqlstate == "GQ004"
            db.execute("RESET ROLE")
    finally:
        db.execute("RESET ROLE")
        db.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
        db.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def test_the_search_path_of_the_caller_does_not_matter(db: Db) -> None:
    db.execute("CREATE SCHEMA evil")
    db.execute("CREATE FUNCTION evil.coalesced() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    db.execute("CREATE FUNCTION evil.char_length(text) RETURNS int LANGUAGE sql AS 'SELECT 0'")
    db.execute("SET search_path = evil, pg_catalog")
    assert "256" in refused(db, [{"kind": "k" * 257}])[1]


def test_decoding_what_it_answers(db: Db) -> None:
    job = prepare(NewJob[Any](kind="k", delay_s=1.0))
    call = functions.enqueue([job])
    rows = db.execute(call.sql("%s").encode(), [call.payload]).fetchall()
    (answer,) = functions.enqueued([job], rows)
    assert answer.ref == job.ref
    assert answer.created_at is not None
    assert answer.run_at == answer.created_at + timedelta(seconds=1)
    assert msgspec.json.decode(call.payload)[0]["kind"] == "k"
