"""Guards of the statements that settle: parts/settle.sql, what other parts do with jobs that end, settle_check.sql."""

from __future__ import annotations

from typing import Final

from scripts.mutation.guard import CONCURRENCY, GUARDS, LIMITS, LOCKS, REVIEWED, Guard, equivalent

_HELD: Final = "WHERE j.id = o.id AND j.fence = o.fence AND j.state + 0 = 1"
_WRITTEN: Final = "(SELECT count(*) FROM gone) + (SELECT count(*) FROM again) <"
_TOLD: Final = "SELECT nth FROM gone UNION ALL SELECT nth FROM again"

CLAIM: Final = (
    Guard(
        "parts/settle.sql", "settle under this fence only", _HELD, "WHERE j.id = o.id AND j.state + 0 = 1", "old_fence"
    ),
    Guard(
        "parts/settle.sql",
        "settle running jobs only",
        _HELD,
        "WHERE j.id = o.id AND j.fence = o.fence",
        "repeated_outcome",
    ),
    Guard(
        "parts/settle.sql", "pass over locked jobs", "FOR UPDATE SKIP LOCKED", "FOR UPDATE", "locked_row", CONCURRENCY
    ),
    Guard(
        "parts/settle.sql", "lock what is settled", "        FOR UPDATE SKIP LOCKED\n", "", "locked_row", CONCURRENCY
    ),
    Guard(
        "parts/settle.sql",
        "a job to be cancelled does not wait again",
        "                WHEN j.cancel_requested_at IS NOT NULL THEN 4\n",
        "",
        "to_be_cancelled_does_not_wait",
    ),
    Guard(
        "parts/settle.sql",
        "an end that was reached counts before a cancel request",
        "WHEN o.state BETWEEN 3 AND 5 THEN o.state\n                WHEN j.cancel_requested_at IS NOT NULL THEN 4",
        "WHEN j.cancel_requested_at IS NOT NULL THEN 4\n                WHEN o.state BETWEEN 3 AND 5 THEN o.state",
        "may_still_complete",
    ),
    Guard(
        "parts/settle.sql",
        "max_crashes ends a job",
        "(j.crashes + 1 >= j.max_crashes OR j.attempt >= j.max_attempts)",
        "(j.attempt >= j.max_attempts)",
        "at_max_crashes_the_job_is_dead",
    ),
    Guard(
        "parts/settle.sql",
        "this crash counts against max_crashes",
        "j.crashes + 1 >= j.max_crashes",
        "j.crashes >= j.max_crashes",
        "at_max_crashes_the_job_is_dead",
    ),
    Guard(
        "parts/settle.sql",
        "a crash on the last attempt ends a job",
        "(j.crashes + 1 >= j.max_crashes OR j.attempt >= j.max_attempts)",
        "(j.crashes + 1 >= j.max_crashes)",
        "reported_crash_on_the_last",
    ),
    Guard(
        "parts/settle.sql",
        "only a crash is judged by its count",
        "WHEN o.state = 6 AND (j.crashes",
        "WHEN (j.crashes",
        "last_attempt_is_as_it_says",
        GUARDS,
    ),
    Guard(
        "parts/settle.sql",
        "only a crash is counted",
        "WHEN o.state = 6 THEN 1 ELSE 0 END",
        "WHEN true THEN 1 END",
        "retry_waits",
    ),
    Guard(
        "parts/settle.sql",
        "a crash is counted",
        "WHEN o.state = 6 THEN 1 ELSE 0 END",
        "WHEN true THEN 0 END",
        "crash_is_counted",
    ),
    Guard("parts/settle.sql", "only final jobs leave", " AND h.final = 1", "", "retry_waits or release_spends"),
    equivalent(
        "parts/settle.sql",
        "h.final = 0",
        "the job was deleted first, by this very statement: there is nothing to update",
    ),
    Guard(
        "parts/settle.sql",
        "a waiting job has no worker",
        "SET state = 0, worker_id = NULL,",
        "SET state = 0,",
        "retry_waits",
    ),
    Guard(
        "parts/settle.sql",
        "a release gives the attempt back",
        "attempt = j.attempt + h.attempt, crashes",
        "attempt = j.attempt, crashes",
        "spends_no_attempt",
    ),
    Guard(
        "parts/settle.sql",
        "a crash stays counted while the job waits",
        "crashes = j.crashes + h.crashed,",
        "crashes = j.crashes,",
        "crash_is_counted",
    ),
    Guard(
        "parts/settle.sql",
        "a crash stays counted in history",
        "j.crashes + h.crashed AS crashes",
        "j.crashes AS crashes",
        "at_max_crashes",
    ),
    Guard(
        "parts/settle.sql",
        "the limits are reckoned anew",
        "        expire_at = least(j.deadline_at, clock.now + true /*delay $11*/ + "
        "make_interval(secs => j.schedule_to_start_s)),\n",
        "",
        "every_way_back",
        GUARDS,
    ),
    Guard(
        "parts/settle.sql",
        "a delay is waited for",
        "run_at = clock.now + true /*delay $11*/,",
        "run_at = clock.now,",
        "retry_waits",
    ),
    Guard(
        "parts/missed.sql",
        "answers are told from the writes, not from the locks",
        _TOLD,
        "SELECT nth FROM held",
        "never_half_told",
        CONCURRENCY,
    ),
    Guard(
        "parts/missed.sql",
        "what was not written is looked for",
        _WRITTEN,
        "(SELECT count(*) FROM held) + coalesce(array_length($1::uuid[], 1), 0) <",
        "old_fence",
    ),
)

ENDS: Final = (
    Guard("parts/delay.sql", "a crash waits as the store says", "h.crashed = 0", "true", "crash_is_counted"),
    Guard(
        "parts/crash_delay.sql",
        "each crash doubles the delay",
        " * power(2, least(j.crashes, 30))",
        "",
        "delay_after_a_crash_doubles",
        LIMITS,
    ),
    Guard(
        "parts/crash_delay.sql",
        "the delay after a crash is bounded",
        "least($1::float8 * power(2, least(j.crashes, 30)), 316224000)",
        "$1::float8 * power(2, j.crashes)",
        "crash_delay_is_bounded",
    ),
    Guard(
        "parts/errors.sql",
        "the number of errors is bounded",
        "$[last - 19 to last]",
        "$[0 to last]",
        "only_the_last_errors",
    ),
    Guard(
        "parts/errors.sql",
        "an outcome without an error adds none",
        "CASE WHEN h.error IS NULL THEN j.errors ELSE",
        "CASE WHEN false THEN j.errors ELSE",
        "release_spends or complete_keeps",
    ),
    Guard(
        "parts/keep.sql",
        "what is not kept leaves no history",
        "WHERE g.expires_on IS NOT NULL\n",
        "",
        "retention_0",
    ),
    Guard(
        "parts/finish.sql",
        "an id that ends twice on one day",
        "    /*history_again*/\n",
        "",
        "can_end_again",
        REVIEWED,
    ),
    Guard(
        "parts/freed.sql",
        "an end frees only its own key",
        "k.key = g.key AND k.job_id = g.id\n      AND (g.flags",
        "k.key = g.key\n      AND (g.flags",
        "a_key_that_it_lost or no_end_of_the_started",
    ),
    equivalent(
        "parts/freed.sql",
        "a key that is held on is not freed",
        "it was written first, by `still`: a row that its own statement has written is not deleted by it",
    ),
    Guard(
        "parts/freed.sql",
        "a job that is not kept frees its key",
        " OR g.expires_on IS NULL AND g.key_window_s IS NULL)",
        ")",
        "retention_0_frees_keys",
    ),
    Guard(
        "parts/freed.sql",
        "a key is held on for its own job only",
        "k.key = g.key AND k.job_id = g.id\n      AND g.flags",
        "k.key = g.key\n      AND g.flags",
        "holds_on_only_its_own",
        GUARDS,
    ),
    Guard(
        "parts/freed.sql",
        "a key is held on in the states that the job named",
        "g.flags & (1 << g.ended) <> 0 AND (g",
        "(g",
        "completion_frees_the_key",
    ),
    Guard(
        "parts/freed.sql",
        "a key is held on while there is a trace or a window",
        " AND (g.expires_on IS NOT NULL OR g.key_window_s IS NOT NULL)",
        "",
        "retention_0_frees_keys",
    ),
    equivalent(
        "parts/freed.sql",
        "g.flags & 1 = 1, tenant, queue and key",
        "a job has one key row at most, found by its id; they lead to the index, and plain jobs past it",
    ),
    Guard(
        "parts/freed.sql",
        "a window ends",
        "coalesce(clock.now + make_interval(secs => g.key_window_s), 'infinity')",
        "'infinity'",
        "window_counts",
    ),
    Guard(
        "parts/freed.sql",
        "a held key goes with the last trace of its holder",
        "'infinity'), g.expires_on::timestamp AT TIME ZONE 'UTC')",
        "'infinity'))",
        "last_trace",
    ),
    Guard(
        "parts/expires_on.sql",
        "retention 0 is not kept",
        "nullif(true /*retention_s $1 $2*/, 0)",
        "true /*retention_s $1 $2*/",
        "retention_0_leaves",
    ),
    Guard(
        "parts/expires_on.sql",
        "no retention is for ever",
        "CASE WHEN true /*retention_s $1 $2*/ IS NULL THEN 'infinity'::date END",
        "NULL::date",
        "dead_keeps or dead_jobs_are_kept",
    ),
    Guard(
        "parts/expires_on.sql", "kept to the end of its day", ")::date + 1,", ")::date,", "end_of_its_last_day", GUARDS
    ),
    Guard(
        "parts/retention_s.sql",
        "a queue has a retention of its own",
        "CASE WHEN $2::jsonb IS NULL OR NOT $2::jsonb ? j.queue THEN",
        "CASE WHEN true THEN",
        "retention_of_its_own",
    ),
)

CHECK: Final = (
    Guard(
        "settle_check.sql",
        "already, of a live job: by this fence",
        "j.id = o.id AND j.fence = o.fence AND j.state + 0 <> 1",
        "j.id = o.id AND j.state + 0 <> 1",
        "swept_lease_is_lost",
    ),
    Guard(
        "settle_check.sql",
        "already, of a live job: running no more",
        "j.id = o.id AND j.fence = o.fence AND j.state + 0 <> 1",
        "j.id = o.id AND j.fence = o.fence",
        "locked_row",
        CONCURRENCY,
    ),
    Guard(
        "settle_check.sql",
        "already, of a final job: by this fence",
        "h.id = o.id AND h.fence = o.fence",
        "h.id = o.id",
        "swept_to_its_death or another_attempt_has_decided",
    ),
    Guard(
        "settle_check.sql",
        "what runs is not decided by an earlier job of its id",
        "NOT EXISTS (SELECT FROM goqueue.job AS r"
        " WHERE r.id = o.id AND r.fence = o.fence AND r.state + 0 = 1)\n    AND ",
        "",
        "not_decided_by_an_earlier",
        LOCKS,
    ),
    equivalent("settle_check.sql", "h.expires_on >= $3", "only spares the partitions that cannot have the id"),
    Guard(
        "settle_check.sql",
        "busy: by this fence",
        "j.id = o.id AND j.fence = o.fence AND j.state + 0 = 1",
        "j.id = o.id AND j.state + 0 = 1",
        "old_fence",
    ),
    equivalent(
        "settle_check.sql", "busy: j.state + 0 = 1", "it is looked at only if the job is not decided: then it runs"
    ),
)

SETTLING: Final = CLAIM + ENDS + CHECK
