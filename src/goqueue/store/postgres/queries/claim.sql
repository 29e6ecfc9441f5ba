-- claim: settle a mixed batch of outcomes, then claim due jobs: one statement, one trip, one commit.
-- $1 to $9 as parts/claim.sql
-- outcomes: $10 ids  $11 fences  $12 new states (0 waits again, 3 completed, 4 cancelled, 5 dead)  $13 change of attempt
--   $14 delays in seconds  $15 results (JSON) or null  $16 errors ({type, message, traceback}) or null
--   $17 reasons or null  $18 retention of completed, $19 cancelled, $20 dead in seconds (null: for ever)
-- Rows: at least one. `missed` (ordinals from 1 of outcomes that were not written) is on each; the lease columns are
--   null if nothing was claimed.
-- What was written is told from the writes themselves, not from the locks: a row whose newer version was committed
--   after this statement began can be locked here and still not be written.
-- Indexes: job_pkey, job_key_pkey, and those of parts/claim.sql. `state + 0` keeps the planner from taking job_running
--   instead of the primary key; the constant final says that few rows come, so that writes go by TID.
WITH clock AS MATERIALIZED (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now),
held AS MATERIALIZED (
    SELECT
        j.tid, o.nth, o.delay_s, o.result, o.error, o.attempt,
        CASE WHEN o.state = 0 AND j.cancel THEN 4 ELSE o.state END AS state,
        CASE WHEN o.state = 0 AND j.cancel THEN 'cancelled' ELSE o.reason END AS reason,
        CASE WHEN o.state = 0 AND NOT j.cancel THEN 0 ELSE 1 END AS final
    FROM unnest($10::uuid[], $11::int8[], $12::int2[], $13::int4[], $14::float8[], $15::text[], $16::text[], $17::text[])
        WITH ORDINALITY AS o(id, fence, state, attempt, delay_s, result, error, reason, nth)
    CROSS JOIN LATERAL (
        SELECT j.ctid AS tid, j.cancel_requested_at IS NOT NULL AS cancel
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
        j.id, j.created_at, j.run_at, j.attempted_at, j.cancel_requested_at, j.fence, j.timeout_s, j.attempt,
        j.max_attempts, j.crashes, j.max_crashes, j.priority, j.flags, j.worker_id, j.tenant, j.queue, j.group_key, j.kind,
        j.args, j.tags, j.meta, j.errors, j.progress, j.unique_key, j.key, j.key_window_s,
        h.state AS ended, h.result, h.error, h.reason, h.nth, h.attempt AS spent,
        coalesce((((SELECT now FROM clock) + make_interval(
            secs => CASE h.state WHEN 3 THEN $18::float8 WHEN 4 THEN $19::float8 ELSE $20::float8 END))
            AT TIME ZONE 'UTC')::date + 1, 'infinity') AS expires_on
),
kept AS (
    INSERT INTO goqueue.job_history (
        id, created_at, run_at, attempted_at, cancel_requested_at, fence, timeout_s, attempt, max_attempts, crashes,
        max_crashes, state, priority, flags, worker_id, tenant, queue, group_key, kind, args, tags, meta, errors, progress,
        unique_key, key, key_window_s, finished_at, expires_on, result, reason)
    SELECT
        g.id, g.created_at, g.run_at, g.attempted_at, g.cancel_requested_at, g.fence, g.timeout_s, g.attempt + g.spent,
        g.max_attempts, g.crashes, g.max_crashes, g.ended, g.priority, g.flags, g.worker_id, g.tenant, g.queue, g.group_key,
        g.kind, g.args, g.tags, g.meta,
        CASE WHEN g.error IS NULL THEN g.errors ELSE jsonb_path_query_array(
            coalesce(g.errors, '[]') || jsonb_build_array(jsonb_build_object('attempt', g.attempt, 'at',
                to_char(clock.now AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')) || g.error::jsonb),
            '$[last - 19 to last]') END,
        g.progress, g.unique_key, g.key, g.key_window_s, clock.now, g.expires_on,
        g.result::json, g.reason
    FROM gone AS g
    CROSS JOIN clock
    /*history_again*/
),
/*free_keys*/
again AS (
    UPDATE goqueue.job AS j
    SET state = 0, worker_id = NULL, attempt = j.attempt + h.attempt,
        run_at = clock.now + make_interval(secs => h.delay_s),
        errors = CASE WHEN h.error IS NULL THEN j.errors ELSE jsonb_path_query_array(
            coalesce(j.errors, '[]') || jsonb_build_array(jsonb_build_object('attempt', j.attempt, 'at',
                to_char(clock.now AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')) || h.error::jsonb),
            '$[last - 19 to last]') END
    FROM held AS h, clock
    WHERE j.ctid = h.tid AND h.final = 0
    RETURNING h.nth
),
/*claim*/
SELECT
    m.missed, l.id, l.lane, l.fence, l.attempt, l.max_attempts, l.crashes, l.timeout_s, l.created_at, l.run_at, l.kind,
    l.args, l.tags, l.meta, l.attempted_at
FROM (
    SELECT CASE
        WHEN (SELECT count(*) FROM gone) + (SELECT count(*) FROM again) < coalesce(array_length($10::uuid[], 1), 0)
        THEN ARRAY(
            SELECT n::int4 FROM generate_series(1, array_length($10::uuid[], 1)) AS n
            WHERE n NOT IN (SELECT nth FROM gone UNION ALL SELECT nth FROM again))
        END AS missed
) AS m
LEFT JOIN lease AS l ON true
