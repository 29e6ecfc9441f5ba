"""Guards of the sweeps, of the term under which they run, and of elections."""

from __future__ import annotations

from typing import Final

from scripts.mutation.guard import CONCURRENCY, GUARDS, LIMITS, LOCKS, REVIEWED, Guard, equivalent

_TERM: Final = " AND (SELECT present FROM term)"
_ONE: Final = "OR j.id = $6::uuid"
_LIMIT: Final = "LIMIT $2::int4"
_MORE: Final = "LIMIT $2::int4 + 1000"
_LOCKED_ALREADY: Final = "the rows were locked while they ran, by the same statement"
_CRASHES: Final = "(j.crashes + 1 >= j.max_crashes OR j.attempt >= j.max_attempts)"

ORPHANS: Final = (
    Guard(
        "sweep_orphans.sql",
        "only of expired workers",
        "w.expires_at <= (SELECT now FROM clock) AND (SELECT present",
        "(SELECT present",
        "live_worker_are_left or only_the_jobs_of_the_gone",
    ),
    Guard("sweep_orphans.sql", "under the present term", _TERM, "", "successor or lapsed"),
    Guard(
        "sweep_orphans.sql",
        "idle workers do not hide those with jobs",
        "\n      AND EXISTS (\n"
        "          SELECT FROM goqueue.job AS j WHERE j.worker_id = w.id AND j.state = 1"
        " AND ($6::uuid IS NULL OR j.id = $6::uuid))",
        "",
        "hide_no_orphans",
        GUARDS,
    ),
    Guard(
        "sweep_orphans.sql",
        "bad orphans of many workers hide no other",
        " AND ($6::uuid IS NULL OR j.id = $6::uuid))\n    ORDER",
        ")\n    ORDER",
        "hide_no_other",
        LOCKS,
    ),
    Guard(
        "sweep_orphans.sql",
        "pass over workers that are beating",
        "    LIMIT 100\n    FOR UPDATE SKIP LOCKED",
        "    LIMIT 100\n    FOR UPDATE",
        "worker_that_is_beating",
        GUARDS,
    ),
    Guard(
        "sweep_orphans.sql",
        "leave workers that are beating alone",
        "    LIMIT 100\n    FOR UPDATE SKIP LOCKED",
        "    LIMIT 100",
        "worker_that_is_beating",
        GUARDS,
    ),
    Guard(
        "sweep_orphans.sql",
        "one by one when one is bad",
        f"{_ONE})\n        LIMIT",
        "OR true)\n        LIMIT",
        "one_bad_orphan",
        REVIEWED,
    ),
    Guard(
        "sweep_orphans.sql",
        "jobs of the expired worker",
        "j.worker_id = e.id AND j.state",
        "j.state",
        "gone_worker_are",
    ),
    equivalent(
        "sweep_orphans.sql", "j.state = 1", "only a running job has a worker; it leads to the index job_running"
    ),
    Guard(
        "sweep_orphans.sql",
        "no more than the limit of all workers",
        "    ) AS j\n    LIMIT $2::int4\n",
        "    ) AS j\n",
        "limit_over_workers",
        GUARDS,
    ),
    equivalent("sweep_orphans.sql", "the limit of one worker", "the limit of all is above it: it only saves locks"),
    Guard(
        "sweep_orphans.sql",
        "pass over locked jobs",
        "        LIMIT $2::int4\n        FOR UPDATE SKIP LOCKED",
        "        LIMIT $2::int4\n        FOR UPDATE",
        "locked_row",
        CONCURRENCY,
    ),
    Guard("sweep_orphans_full.sql", "running jobs only", "j.state = 1 AND ", "", "waiting_jobs_hide", GUARDS),
    Guard("sweep_orphans_full.sql", "one by one when one is bad", _ONE, "OR true", "full_sweep_goes_on", GUARDS),
    Guard("sweep_orphans_full.sql", "under the present term", _TERM, "", "successor or lapsed"),
    Guard(
        "sweep_orphans_full.sql",
        "only of missing workers",
        "\n      AND NOT EXISTS (SELECT FROM goqueue.worker AS w WHERE w.id = j.worker_id)",
        "",
        "without_a_row",
    ),
    Guard("sweep_orphans_full.sql", "no more than the limit", _LIMIT, _MORE, "sweeps_keep_to_their_limit", GUARDS),
    Guard(
        "sweep_orphans_full.sql", "pass over locked jobs", "FOR UPDATE SKIP LOCKED", "FOR UPDATE", "locked_rows", GUARDS
    ),
    Guard(
        "parts/take_back.sql",
        "an orphan to be cancelled is cancelled",
        "            WHEN j.cancel_requested_at IS NOT NULL THEN 4\n",
        "",
        "orphan_to_be_cancelled",
    ),
    Guard(
        "parts/take_back.sql",
        "max_crashes ends a job",
        _CRASHES[1:-1],
        "j.attempt >= j.max_attempts",
        "kills_its_workers",
    ),
    Guard(
        "parts/take_back.sql",
        "this crash counts against max_crashes",
        "j.crashes + 1 >= j.max_crashes",
        "j.crashes >= j.max_crashes",
        "kills_its_workers",
    ),
    Guard(
        "parts/take_back.sql",
        "a crash on the last attempt ends a job",
        " OR j.attempt >= j.max_attempts",
        "",
        "a_crash_on_the_last_attempt_is",
    ),
    equivalent(
        "parts/take_back.sql",
        "j.state + 0 = 1, twice",
        "the rows were locked while they ran, by the same statement; a second look, should a sweep forget the first",
    ),
    equivalent(
        "parts/take_back.sql",
        "gone: h.ended <> 0",
        "`again` comes first: a row that its own statement has written is not deleted by it",
    ),
    Guard("parts/take_back.sql", "final jobs do not wait", " AND h.ended = 0", "", "a_crash_on_the_last_attempt_is"),
    Guard(
        "parts/take_back.sql",
        "an ended orphan has a new fence",
        "j.fence + 1 AS fence",
        "j.fence AS fence",
        "to_its_death",
    ),
    Guard(
        "parts/take_back.sql",
        "a waiting orphan has a new fence",
        "fence = j.fence + 1,",
        "fence = j.fence,",
        "swept_lease_is_lost",
    ),
    Guard(
        "parts/take_back.sql",
        "a crash is counted at the end",
        "j.crashes + 1 AS crashes",
        "j.crashes AS crashes",
        "last_attempt",
    ),
    Guard(
        "parts/take_back.sql",
        "a crash is counted",
        "crashes = j.crashes + 1,",
        "crashes = j.crashes,",
        "due_again_after",
    ),
    Guard("parts/take_back.sql", "an orphan has no worker", "worker_id = NULL, ", "", "due_again_after"),
    Guard(
        "parts/take_back.sql",
        "the number of errors is bounded",
        "$[last - 19 to last]",
        "$[0 to last]",
        "last_errors",
        GUARDS,
    ),
    Guard(
        "parts/take_back.sql",
        "an orphan waits",
        "run_at = clock.now + true /*crash_delay $3*/,",
        "run_at = clock.now,",
        "due_again_after",
    ),
    Guard(
        "parts/take_back.sql",
        "the limits are reckoned anew",
        ",\n        expire_at = least(\n            j.deadline_at, clock.now + true /*crash_delay $3*/ "
        "+ make_interval(secs => j.schedule_to_start_s))",
        "",
        "every_way_back",
        GUARDS,
    ),
    equivalent(
        "orphans.sql",
        "state, expires_at",
        "it lists what the sweep is then asked for one by one, and that looks at them again",
    ),
)

EXPIRED: Final = (
    Guard("sweep_expired.sql", "running jobs are their worker's", " AND j.state <> 1", "", "left_to_their_workers"),
    Guard("sweep_expired.sql", "one by one when one is bad", _ONE, "OR true", "bad_job_does_not_stop", LIMITS),
    Guard("sweep_expired.sql", "under the present term", _TERM, "", "successor or lapsed"),
    Guard("sweep_expired.sql", "no more than the limit", _LIMIT, _MORE, "expiry_sweep_takes_no_more"),
    Guard("sweep_expired.sql", "pass over locked jobs", "OF j SKIP LOCKED", "OF j", "locked_rows", GUARDS),
    Guard(
        "sweep_expired.sql",
        "only what has passed its limits",
        "j.expire_at <= (SELECT now FROM clock) AND j.state",
        "j.state",
        "looks_only_at",
        GUARDS,
    ),
    Guard(
        "sweep_expired.sql",
        "the limits are reckoned again: not dead unless one has passed",
        " AND h.reason IS NOT NULL",
        "",
        "set_right",
        LIMITS,
    ),
    equivalent("sweep_expired.sql", "mended: h.reason IS NULL", "the job was deleted first, by this very statement"),
    Guard(
        "sweep_expired.sql",
        "the deadline is looked at first",
        "            WHEN j.deadline_at <= clock.now THEN 'deadline'\n",
        "",
        "past_its_deadline or the_deadline_is_named",
    ),
    Guard(
        "sweep_expired.sql",
        "schedule_to_start_s is looked at",
        "            WHEN j.state = 0 AND j.run_at + make_interval(secs => j.schedule_to_start_s) <= clock.now "
        "THEN 'expired'\n",
        "",
        "not_started_in_time",
    ),
    equivalent(
        "sweep_expired.sql", "j.state = 0, twice", "no statement of this version makes a job with state 2 (blocked)"
    ),
    Guard(
        "sweep_expired.sql",
        "an expired job has a new fence",
        "j.fence + 1 AS fence",
        "j.fence AS fence",
        "expired_since_is_lost",
    ),
    Guard(
        "sweep_expired.sql",
        "the number of errors is bounded",
        "$[last - 19 to last]",
        "$[0 to last]",
        "last_errors",
        GUARDS,
    ),
    equivalent(
        "expired.sql",
        "expire_at, state",
        "it lists what sweep_expired is then asked for one by one, and that looks at them again",
    ),
)

UPKEEP: Final = (
    Guard(
        "sweep_workers.sql",
        "live workers are kept",
        "w.expires_at <= (SELECT coalesce($1::timestamptz, clock_timestamp()) - make_interval(secs => $6::float8)) "
        "AND (SELECT",
        "(SELECT",
        "live_worker_is_kept",
    ),
    Guard(
        "sweep_workers.sql",
        "gone workers are kept for claims that are under way",
        " - make_interval(secs => $6::float8)",
        " - make_interval(secs => 0 * $6::float8)",
        "kept_for_a_while",
    ),
    Guard("sweep_workers.sql", "under the present term", _TERM, "", "successor or lapsed"),
    Guard(
        "sweep_workers.sql",
        "workers with jobs are kept",
        "\n      AND NOT EXISTS (SELECT FROM goqueue.job AS j WHERE j.worker_id = w.id AND j.state = 1)",
        "",
        "kept_while_it_holds",
    ),
    Guard("sweep_workers.sql", "no more than the limit", _LIMIT, _MORE, "sweeps_keep_to_their_limit", GUARDS),
    Guard(
        "sweep_workers.sql", "pass over locked workers", "FOR UPDATE SKIP LOCKED", "FOR UPDATE", "locked_rows", GUARDS
    ),
    Guard(
        "sweep_records.sql",
        "records live their time",
        "WHERE expires_at <= (SELECT now FROM clock) AND (SELECT present",
        "WHERE expires_at IS NOT NULL AND (SELECT present",
        "held_their_time",
        GUARDS,
    ),
    Guard(
        "sweep_records.sql",
        "records under the present term",
        "expires_at <= (SELECT now FROM clock) AND (SELECT present FROM term)",
        "expires_at <= (SELECT now FROM clock)",
        "successor or lapsed",
    ),
    Guard(
        "sweep_records.sql",
        "keys are held their time",
        "WHERE until <= (SELECT now FROM clock) AND (SELECT present",
        "WHERE until IS NOT NULL AND (SELECT present",
        "held_their_time",
        GUARDS,
    ),
    Guard(
        "sweep_records.sql",
        "keys under the present term",
        "until <= (SELECT now FROM clock) AND (SELECT present FROM term)",
        "until <= (SELECT now FROM clock)",
        "go_under_the_present_term",
        GUARDS,
    ),
    Guard(
        "sweep_records.sql",
        "no more than the limit",
        _LIMIT,
        _MORE,
        "sweeps_keep_to_their_limit",
        GUARDS,
        2,
    ),
    Guard(
        "sweep_records.sql", "pass over locked rows", "FOR UPDATE SKIP LOCKED", "FOR UPDATE", "locked_rows", GUARDS, 2
    ),
    Guard("parts/term.sql", "of this office", "l.name = $2::text AND ", "", "another_office"),
    Guard("parts/term.sql", "of this holder", "l.holder = $3::text", "$3::text IS NOT NULL", "another_office"),
    Guard("parts/term.sql", "with this number", "l.term = $4::int8", "$4::int8 > 0", "lapsed or old_one_is_not"),
    Guard(
        "parts/term.sql",
        "that has not lapsed",
        "l.expires_at > coalesce(",
        "'infinity' > coalesce(",
        "that_has_lapsed_is_refused or resigned",
    ),
    Guard("parts/term.sql", "or of nobody", "$2::text IS NULL OR ", "", "anybodys"),
    Guard(
        "elect.sql",
        "a present leader stays",
        "\nWHERE l.holder = excluded.holder OR l.expires_at <= coalesce($1::timestamptz, clock_timestamp())",
        "",
        "one_leader_at_a_time",
    ),
    Guard(
        "elect.sql",
        "a leader may renew",
        "WHERE l.holder = excluded.holder OR l.expires_at",
        "WHERE l.expires_at",
        "stays_while_it_renews",
    ),
    Guard("elect.sql", "a new leader has a new number", "THEN 0 ELSE 1 END", "THEN 0 ELSE 0 END", "higher_number"),
    Guard(
        "elect.sql",
        "a leader that lapsed has a new number",
        "WHEN l.holder = excluded.holder AND l.expires_at > coalesce($1::timestamptz, clock_timestamp()) THEN",
        "WHEN l.holder = excluded.holder THEN",
        "comes_back",
    ),
    Guard("resign.sql", "only one's own office is given up", " AND holder = $3::text", "", "resign_of_another", GUARDS),
)

SWEEPING: Final = ORPHANS + EXPIRED + UPKEEP
