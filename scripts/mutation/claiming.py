"""Guards of a claim: parts/claim.sql and what frees a key that is held until its job starts."""

from __future__ import annotations

from typing import Final

from scripts.mutation.guard import GUARDS, Guard, equivalent

_FREE: Final = "migrations/0003_limits.sql"

CLAIMING: Final = (
    Guard(
        "parts/claim.sql",
        "waiting jobs only",
        "WHERE j.state = 0\n          AND j.tenant",
        "WHERE j.tenant",
        "not_claimed_again",
    ),
    Guard(
        "parts/claim.sql",
        "jobs of the tenant",
        "j.tenant = $3::text AND j.queue = u.queue",
        "j.queue = u.queue",
        "tenants_own_jobs",
        GUARDS,
    ),
    Guard("parts/claim.sql", "jobs of the queue", "j.queue = u.queue AND ", "", "tenants_own_jobs", GUARDS),
    Guard("parts/claim.sql", "priorities one after the other", " AND j.priority = u.priority", "", "lower_priority"),
    Guard(
        "parts/claim.sql", "jobs of the group", " AND j.group_key = u.group_key", "", "groups_in_their_lanes", GUARDS
    ),
    Guard(
        "parts/claim.sql",
        "jobs that are due",
        "j.run_at <= (SELECT now FROM clock) AND (j",
        "(j",
        "due_and_earliest",
        GUARDS,
    ),
    equivalent(
        "parts/claim.sql",
        "(j.run_at, j.id) > (u.run_at, u.id)",
        "only spares the index entries of jobs that were claimed before; tests/plans look at it",
    ),
    Guard(
        "parts/claim.sql",
        "the earliest due first",
        "        ORDER BY j.run_at, j.id\n",
        "        ORDER BY j.run_at DESC, j.id DESC\n",
        "due_and_earliest",
        GUARDS,
    ),
    Guard(
        "parts/claim.sql",
        "no more than wanted",
        "    LIMIT $9::int4\n),\nlease",
        "),\nlease",
        "wanted_over_lanes",
        GUARDS,
    ),
    equivalent("parts/claim.sql", "the limit of one lane", "the limit of all lanes is above it: it only saves locks"),
    Guard(
        "parts/claim.sql",
        "pass over locked jobs",
        "        LIMIT $9::int4\n        FOR UPDATE SKIP LOCKED",
        "        LIMIT $9::int4\n        FOR UPDATE",
        "claim_passes",
        GUARDS,
    ),
    Guard(
        "parts/claim.sql",
        "lock what is claimed",
        "        LIMIT $9::int4\n        FOR UPDATE SKIP LOCKED\n",
        "        LIMIT $9::int4\n",
        "claim_passes",
        GUARDS,
    ),
    Guard(
        "parts/claim.sql",
        "for a worker that has a row",
        "EXISTS (SELECT FROM goqueue.worker AS w WHERE w.id = $2::uuid AND w.expires_at > (SELECT now FROM clock))",
        "true",
        "never_beat",
    ),
    Guard("parts/claim.sql", "by its own row", "w.id = $2::uuid AND ", "", "never_beat_beside", GUARDS),
    Guard(
        "parts/claim.sql",
        "for a worker that is alive",
        " AND w.expires_at > (SELECT now FROM clock)",
        "",
        "row_has_expired",
    ),
    Guard(
        "parts/claim.sql",
        "a pause waits for claims in flight",
        "    SELECT FROM goqueue.queue_pause AS p WHERE p.tenant = $3::text AND p.queue = '' FOR KEY SHARE\n",
        "    SELECT FROM goqueue.queue_pause AS p WHERE false\n",
        "pause_waits_for_a_claim",
        GUARDS,
    ),
    equivalent(
        "parts/claim.sql", "NOT EXISTS turnstile", "there is no queue without a name; it makes the lock be taken"
    ),
    Guard(
        "parts/claim.sql",
        "paused queues give nothing",
        "\n      AND NOT u.queue = ANY (ARRAY(SELECT p.queue FROM goqueue.queue_pause AS p WHERE p.tenant = $3::text))",
        "",
        "pause_that_comes_after",
        GUARDS,
    ),
    Guard(
        "parts/claim.sql",
        "pauses count for their tenant",
        "FROM goqueue.queue_pause AS p WHERE p.tenant = $3::text))",
        "FROM goqueue.queue_pause AS p))",
        "pause_counts_for_its_tenant",
    ),
    Guard("parts/claim.sql", "a claim raises the fence", "fence = j.fence + 1,", "fence = j.fence,", "raises_fence"),
    Guard(
        "parts/claim.sql",
        "a claim spends an attempt",
        "attempt = j.attempt + 1,",
        "attempt = j.attempt,",
        "raises_fence",
    ),
    Guard(
        "parts/claim.sql",
        "the worker is noted",
        " worker_id = $2::uuid, attempted_at",
        " attempted_at",
        "in_the_record",
    ),
    Guard(
        "parts/claim.sql",
        "the first attempt is remembered",
        "ELSE coalesce(j.first_attempted_at, j.attempted_at)",
        "ELSE clock.now",
        "being_tried",
    ),
    Guard(
        "parts/claim.sql",
        "a manual retry tries anew",
        "            WHEN j.first_attempted_at = 'infinity' THEN clock.now\n",
        "",
        "time_of_trying_anew",
    ),
    Guard(
        "parts/claim.sql",
        "a start frees its key",
        "CASE WHEN j.flags >= 128 THEN",
        "CASE WHEN false THEN",
        "claim_frees_it",
    ),
    Guard(
        "parts/claim.sql",
        "other starts free no key",
        "CASE WHEN j.flags >= 128 THEN",
        "CASE WHEN true THEN",
        "held_while_its_job or meets_a_holder",
    ),
    Guard(_FREE, "a start frees its own key only", " AND k.job_id = $4", "", "upkeep_of_a_job_whose_key"),
    equivalent(
        _FREE, "tenant, queue and key", "a job has one key row at most, found by its id; they lead to the index"
    ),
)
