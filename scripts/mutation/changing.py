"""Guards of changes by hand, of enqueue with and without keys, of pauses and records."""

from __future__ import annotations

from typing import Final

from scripts.mutation.guard import CONCURRENCY, GUARDS, LOCKS, REVIEWED, Guard, equivalent

_PRUNES: Final = "only spares the partitions that cannot have the id"
_SKIP: Final = "FOR UPDATE SKIP LOCKED"
_AGAIN: Final = "ON CONFLICT (id) DO NOTHING\n"
_PLACE: Final = "{} + ${}::float8 * (array_position"

CHANGES: Final = (
    Guard("cancel.sql", "jobs of the tenant", "j.tenant = $2::text", "$2::text IS NOT NULL", "another_tenant"),
    Guard(
        "cancel.sql",
        "a running job is asked once",
        " AND (j.state + 0 <> 1 OR j.cancel_requested_at IS NULL)",
        "",
        "asked_to_stop_once",
    ),
    Guard("cancel.sql", "pass over locked jobs", _SKIP, "FOR UPDATE", "locked_row", CONCURRENCY),
    Guard("cancel.sql", "a running job is not taken away", " AND h.state <> 1", "", "asked_to_stop_once"),
    equivalent("cancel.sql", "asked: h.state = 1", "any other job was deleted first, by this very statement"),
    Guard("delete.sql", "live jobs of the tenant", " AND j.tenant = $1::text", "", "another_tenant"),
    Guard("delete.sql", "final jobs of the tenant", " AND h.tenant = $1::text", "", "another_tenant"),
    Guard("delete.sql", "not while it runs", " AND j.state + 0 <> 1", "", "running_job_cannot_be_deleted"),
    Guard(
        "delete.sql",
        "pass over locked live jobs",
        f"j.state + 0 <> 1\n    {_SKIP}",
        "j.state + 0 <> 1\n    FOR UPDATE",
        "delete_passes",
        GUARDS,
    ),
    Guard(
        "delete.sql",
        "pass over locked final jobs",
        "FOR UPDATE OF h SKIP LOCKED",
        "FOR UPDATE OF h",
        "locked_history_row",
        REVIEWED,
    ),
    Guard("delete.sql", "only its own key is freed", " AND k.job_id = g.id", "", "deleting_an_old_job", GUARDS),
    Guard(
        "delete.sql",
        "not the history of a job that stays",
        "\n      AND NOT EXISTS (\n"
        "          SELECT FROM goqueue.job AS j WHERE j.id = h.id"
        " AND j.ctid <> ALL (ARRAY(SELECT l.tid FROM held AS l)))",
        "",
        "delete_leaves_the_history",
        LOCKS,
    ),
    equivalent("delete.sql", "h.expires_on >= $3", _PRUNES),
    Guard("retry_history.sql", "jobs of the tenant", " AND h.tenant = $2::text", "", "another_tenant"),
    Guard(
        "retry_history.sql",
        "not while its id is live",
        "\n      AND NOT EXISTS (SELECT FROM goqueue.job AS j WHERE j.id = h.id)",
        "",
        "id_that_is_live",
        REVIEWED,
    ),
    Guard(
        "retry_history.sql",
        "the later end of an id that is history twice",
        " > (h.finished_at, h.expires_on)",
        " > ('infinity'::timestamptz, 'infinity'::date)",
        "history_twice",
        LOCKS,
    ),
    Guard(
        "retry_history.sql",
        "pass over locked jobs",
        "FOR UPDATE OF h SKIP LOCKED",
        "FOR UPDATE OF h",
        "as_one_statement",
        GUARDS,
    ),
    Guard(
        "retry_history.sql",
        "a key that is being taken is not waited for long",
        "\n      AND (SELECT is_set FROM patience) IS NOT NULL",
        "",
        "waits_for_a_key_not_long",
        GUARDS,
    ),
    Guard(
        "retry_history.sql",
        "holds that have run out make room",
        " OR k.until <= (SELECT now FROM clock)",
        "",
        "hold_ran_out",
        GUARDS,
    ),
    Guard(
        "retry_history.sql",
        "holds that stand do not",
        "\n          AND (k.job_id = f.id OR k.until <= (SELECT now FROM clock))",
        "",
        "hold_ran_out",
        GUARDS,
    ),
    Guard(
        "retry_history.sql",
        "a key that is one's own is taken again",
        "(k.job_id = f.id OR ",
        "(",
        "goes_on_holding_beyond",
    ),
    Guard(
        "retry_history.sql",
        "a key of another is not",
        "ON CONFLICT (tenant, queue, key) DO NOTHING",
        "ON CONFLICT (tenant, queue, key) DO UPDATE SET until = NULL",
        "hold_ran_out",
        GUARDS,
    ),
    Guard(
        "retry_history.sql", "for good", "SET until = NULL FROM", "SET until = k.until FROM", "goes_on_holding_beyond"
    ),
    Guard(
        "retry_history.sql",
        "a job without its key stays final",
        " AND (f.key IS NULL OR f.id IN (SELECT job_id FROM taken))",
        "",
        "another_job_holds",
    ),
    Guard(
        "retry_history.sql",
        "one more attempt",
        "greatest(b.max_attempts, b.attempt + 1)",
        "b.max_attempts",
        "one_more_attempt",
    ),
    Guard(
        "retry_history.sql",
        "one more crash",
        "greatest(b.max_crashes, b.crashes + 1)",
        "b.max_crashes",
        "survives_one_more",
    ),
    Guard(
        "retry_history.sql", "the fence goes on", "b.attempted_at, b.fence,", "b.attempted_at, 0,", "old_outcome_count"
    ),
    Guard(
        "retry_history.sql",
        "a deadline that has passed is lifted",
        "CASE WHEN b.deadline_at > clock.now THEN b.deadline_at END",
        "b.deadline_at",
        "is_lifted",
    ),
    Guard(
        "retry_history.sql",
        "the time of trying begins anew",
        "CASE WHEN b.attempted_at IS NOT NULL THEN 'infinity'::timestamptz END",
        "NULL::timestamptz",
        "time_of_trying_anew",
    ),
    Guard(
        "retry_history.sql",
        "a bounded rate",
        _PLACE.format("$7::float8", 8),
        "$7::float8 + 0 * (array_position",
        "bounded_rate",
    ),
    equivalent("retry_history.sql", "h.expires_on >= $4", _PRUNES),
    equivalent(
        "retry_history.sql",
        "DISTINCT ON, count(expired) >= 0",
        "without DISTINCT ON a key twice meets itself just the same; the count orders two writes",
    ),
    Guard(
        "retry_live.sql",
        "jobs of the tenant",
        "j.tenant = $2::text",
        "$2::text IS NOT NULL",
        "waiting_job_of_another_tenant",
        GUARDS,
    ),
    Guard(
        "retry_live.sql",
        "waiting jobs only",
        " AND j.state + 0 = 0",
        "",
        "clock_goes_back",
        GUARDS,
    ),
    Guard("retry_live.sql", "pass over locked jobs", _SKIP, "FOR UPDATE", "retry_passes", GUARDS),
    Guard("retry_live.sql", "never later than it was", "\n    WHERE j.run_at > j.due", "", "due_sooner"),
    Guard(
        "retry_live.sql",
        "a deadline that has passed is lifted",
        "CASE WHEN j.deadline_at > clock.now THEN j.deadline_at END",
        "j.deadline_at",
        "is_spared",
    ),
)

ENQUEUE: Final = (
    *(
        Guard(f"{name}.sql", "an id is stored once", _AGAIN, "", tests)
        for name, tests in (
            ("enqueue_one", "id_that_is_there"),
            ("enqueue", "id_twice_in_a_batch_is_stored_once or blind_retry_of_a_batch"),
        )
    ),
    Guard("enqueue_limited.sql", "an id is stored once", _AGAIN, "", "with_limits_is_stored_once", GUARDS),
    *(
        Guard(
            f"{name}.sql",
            "nothing is due before it is stored",
            "greatest(clock.now, coalesce(",
            "(coalesce(",
            tests,
            at,
        )
        for name, tests, at in (
            ("enqueue_one", "in_the_past", "tests/conformance/test_postgres.py"),
            ("parts/insert_jobs", "due_before_it_is_stored", GUARDS),
            ("enqueue_limited", "due_before_it_is_stored", GUARDS),
            ("enqueue_keyed", "due_before_it_is_stored", GUARDS),
            ("enqueue_replace", "due_before_it_is_stored", GUARDS),
        )
    ),
    Guard(
        "enqueue_keyed.sql",
        "an id is stored once",
        "    WHERE NOT EXISTS (SELECT FROM goqueue.job AS j WHERE j.id = n.id)\n",
        "",
        "conflicts_with_itself or takes_no_key",
    ),
    Guard(
        "enqueue_keyed.sql",
        "keys are taken in one order",
        '    ORDER BY n.tenant COLLATE "C", n.queue COLLATE "C", n.key, n.id\n',
        "",
        "in_one_order",
        GUARDS,
    ),
    Guard(
        "enqueue_keyed.sql",
        "a key has one holder",
        "ON CONFLICT (tenant, queue, key) DO NOTHING",
        "ON CONFLICT (tenant, queue, key) DO UPDATE SET job_id = excluded.job_id",
        "gets_the_holder",
    ),
    Guard(
        "enqueue_keyed.sql",
        "only with its key",
        "\nWHERE n.id IN (SELECT t.job_id FROM taken AS t)",
        "",
        "gets_the_holder",
    ),
    Guard(
        "enqueue_expire_keys.sql",
        "only holds that have run out",
        "k.until <= (SELECT coalesce(",
        "'-infinity' <= (SELECT coalesce(",
        "changed_in_between",
        GUARDS,
    ),
    Guard(
        "enqueue_expire_keys.sql",
        "in the order of the keys",
        '\n        ORDER BY w.tenant COLLATE "C", w.queue COLLATE "C", w.key OFFSET 0',
        "",
        "order_of_their_keys",
        LOCKS,
    ),
    Guard(
        "enqueue_holders.sql",
        "a hold that has run out holds no more",
        "k.until <= coalesce(",
        "'infinity' <= coalesce(",
        "one_new_holder",
    ),
    Guard(
        "enqueue_undo.sql",
        "only what is history is taken back",
        "\n      AND EXISTS (SELECT FROM goqueue.job_history AS h WHERE h.id = w.id AND h.expires_on >= $2::date)",
        "",
        "blind_retry_of_a_batch",
    ),
    equivalent("enqueue_undo.sql", "k.job_id = gone.id", "what this transaction has inserted holds its key"),
    Guard(
        "enqueue_replace.sql",
        "only who holds the key",
        "j.key = $3::bytea",
        "$3::bytea IS NOT NULL",
        "changed_in_between",
        GUARDS,
    ),
    Guard("enqueue_replace.sql", "not once it runs", " AND j.state + 0 IN (0, 2)", "", "running_holder_alone"),
    Guard(
        "enqueue_replace.sql",
        "not once it has lost its key",
        "      AND (j.flags & 128 = 0 OR j.fence = 0 OR EXISTS (\n"
        "          SELECT FROM goqueue.job_key AS k\n"
        "          WHERE k.tenant = j.tenant AND k.queue = j.queue AND k.key = j.key AND k.job_id = j.id))\n",
        "",
        "changed_in_between",
        GUARDS,
    ),
    Guard(
        "enqueue_replace.sql",
        "a locked holder is not waited for",
        "OF j SKIP LOCKED",
        "OF j",
        "replace_does_not",
        CONCURRENCY,
    ),
    Guard("enqueue_replace.sql", "an attempt is left", "greatest($9::int4, j.attempt + 1)", "$9::int4", "been_through"),
    Guard(
        "enqueue_replace.sql",
        "a debounce moves run_at",
        "CASE WHEN $18::bool THEN",
        "CASE WHEN true THEN",
        "moves_run_at",
    ),
    Guard(
        "enqueue_replace.sql", "unless it is kept", "CASE WHEN $18::bool THEN", "CASE WHEN false THEN", "keep_run_at"
    ),
)

OTHERS: Final = (
    Guard(
        "pause_lock.sql",
        "a pause waits for claims in flight",
        "IN EXCLUSIVE MODE",
        "IN ROW EXCLUSIVE MODE",
        "pause_waits_for_a_claim",
        GUARDS,
    ),
    Guard("resume.sql", "one queue is resumed", " AND queue = $2::text", "", "paused_queues_are_named"),
    Guard("record_write.sql", "over the version that was read", " AND version = $5::int8", "", "version_that_was_read"),
    Guard(
        "record_write.sql",
        "not after its time",
        "\n  AND (expires_at IS NULL OR expires_at > coalesce($1::timestamptz, clock_timestamp()))",
        "",
        "absent_after",
    ),
    Guard(
        "record_create.sql",
        "not over a live record",
        "\nWHERE r.expires_at <= coalesce($1::timestamptz, clock_timestamp())",
        "",
        "version_that_was_read",
    ),
    Guard(
        "record_create.sql",
        "over one whose time is over",
        "WHERE r.expires_at <= ",
        "WHERE false AND r.expires_at <= ",
        "absent_after",
    ),
)

CHANGING: Final = CHANGES + ENQUEUE + OTHERS
