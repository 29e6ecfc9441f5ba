-- claim: settle a mixed batch of outcomes, then claim due jobs: one statement, one trip, one commit.
-- $1 to $9 as parts/claim.sql
-- outcomes: $10 ids  $11 fences  $12 new states (0 waits again, 3 completed, 4 cancelled, 5 dead, 6 crashed)  $13 change of attempt
--   $14 delays in seconds  $15 results (JSON) or null  $16 errors ({type, message, traceback}) or null
--   $17 reasons (of endings, or why it was put off) or null  $18 retentions in seconds of completed, cancelled and dead jobs (null: for ever)  $19 the same by
--   queue, or null  $20 crash delay in seconds
-- Rows: at least one. `missed` (ordinals from 1 of outcomes that were not written) is on each; the lease columns are
--   null if nothing was claimed.
-- What was written is told from the writes themselves, not from the locks: a row whose newer version was committed
--   after this statement began can be locked here and still not be written.
-- Indexes: job_pkey, job_key_pkey, and those of parts/claim.sql. `state + 0` keeps the planner from taking job_running
--   instead of the primary key; the constant final says that few rows come, so that writes go by TID.
WITH clock AS MATERIALIZED (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now),
held AS MATERIALIZED (
    SELECT
        j.tid, o.nth, o.delay_s, o.result, o.error, o.attempt, j.ended, j.crashed,
        CASE
            WHEN j.ended = o.state THEN o.reason
            WHEN j.ended = 4 THEN 'cancelled'
            WHEN j.ended = 5 THEN 'crashed'
        END AS reason,
        CASE WHEN j.ended = 0 THEN 0 ELSE 1 END AS final
    FROM unnest($10::uuid[], $11::int8[], $12::int2[], $13::int4[], $14::float8[], $15::text[], $16::text[], $17::text[])
        WITH ORDINALITY AS o(id, fence, state, attempt, delay_s, result, error, reason, nth)
    CROSS JOIN LATERAL (
        SELECT
            j.ctid AS tid, CASE WHEN o.state = 6 THEN 1 ELSE 0 END AS crashed,
            CASE
                WHEN o.state BETWEEN 3 AND 5 THEN o.state
                WHEN j.cancel_requested_at IS NOT NULL THEN 4
                WHEN o.state = 6 AND (j.crashes + 1 >= j.max_crashes OR j.attempt >= j.max_attempts) THEN 5
                ELSE 0
            END AS ended
        FROM goqueue.job AS j
        WHERE j.id = o.id AND j.fence = o.fence AND j.state + 0 = 1
        FOR UPDATE SKIP LOCKED
    ) AS j
),
gone AS (
    DELETE FROM goqueue.job AS j
    USING held AS h
    WHERE j.ctid = h.tid AND h.final = 1
    RETURNING
        j.* /*ending*/, j.cancel_requested_at, j.fence, j.attempt + h.attempt AS attempt, j.crashes + h.crashed AS crashes,
        true /*errors*/ AS errors, h.ended, h.nth, h.result::json AS result, h.reason, true /*expires_on $18 $19*/ AS expires_on
),
/*finish*/
again AS (
    UPDATE goqueue.job AS j
    SET state = 0, worker_id = NULL, attempt = j.attempt + h.attempt, crashes = j.crashes + h.crashed,
        run_at = clock.now + true /*delay $20*/,
        expire_at = least(j.deadline_at, clock.now + true /*delay $20*/ + make_interval(secs => j.schedule_to_start_s)),
        errors = true /*errors*/, reason = h.reason
    FROM held AS h, clock
    WHERE j.ctid = h.tid AND h.final = 0
    RETURNING h.nth
),
/*claim*/
SELECT
    m.missed, l.id, l.lane, l.fence, l.attempt, l.max_attempts, l.crashes, l.timeout_s, l.created_at, l.run_at, l.kind,
    l.args, l.tags, l.meta, l.attempted_at, l.rare
FROM (
    SELECT CASE
        WHEN (SELECT count(*) FROM gone) + (SELECT count(*) FROM again) < coalesce(array_length($10::uuid[], 1), 0)
        THEN ARRAY(
            SELECT n::int4 FROM generate_series(1, array_length($10::uuid[], 1)) AS n
            WHERE n NOT IN (SELECT nth FROM gone UNION ALL SELECT nth FROM again))
        END AS missed
) AS m
LEFT JOIN lease AS l ON true
