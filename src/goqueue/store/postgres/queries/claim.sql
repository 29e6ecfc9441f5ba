-- claim: settle a mixed batch of outcomes, then claim due jobs: one statement, one trip, one commit.
-- $1 now or null
-- outcomes: $2 ids  $3 fences  $4 new states (0 waits again, 3 completed, 4 cancelled, 5 dead)  $5 change of attempt
--   $6 delays in seconds  $7 results (JSON) or null  $8 errors ({type, message, traceback}) or null
--   $9 reasons or null  $10 retention of completed, $11 cancelled, $12 dead in seconds (null: for ever)
-- claim: $13 worker id  $14 tenant
--   lanes in the wanted order: $15 queues  $16 priorities  $17 group keys  $18 low-water run_at  $19 low-water id
--   $20 jobs in all
-- Rows: at least one. `missed` (ordinals from 1 of outcomes that were not written) is on each; the lease columns are
--   null if nothing was claimed.
-- What was written is told from the writes themselves, not from the locks: a row whose newer version was committed
--   after this statement began can be locked here and still not be written.
-- Indexes: job_pkey, job_ready, job_key_pkey, worker_pkey, queue_pause_pkey. `state + 0` keeps the planner from taking
--   job_running instead of the primary key; the constants one and final say that few rows come, so that writes go by TID.
-- Pauses are read into an array first: as an anti-join they could be hashed, and the lanes would lose their order.
WITH clock AS MATERIALIZED (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now),
held AS MATERIALIZED (
    SELECT
        j.tid, o.nth, o.delay_s, o.result, o.error, o.attempt,
        CASE WHEN o.state = 0 AND j.cancel THEN 4 ELSE o.state END AS state,
        CASE WHEN o.state = 0 AND j.cancel THEN 'cancelled' ELSE o.reason END AS reason,
        CASE WHEN o.state = 0 AND NOT j.cancel THEN 0 ELSE 1 END AS final
    FROM unnest($2::uuid[], $3::int8[], $4::int2[], $5::int4[], $6::float8[], $7::text[], $8::text[], $9::text[])
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
        h.state AS state, h.result, h.error, h.reason, h.nth, h.attempt AS spent,
        coalesce((((SELECT now FROM clock) + make_interval(
            secs => CASE h.state WHEN 3 THEN $10::float8 WHEN 4 THEN $11::float8 ELSE $12::float8 END))
            AT TIME ZONE 'UTC')::date + 1, 'infinity') AS expires_on
),
kept AS (
    INSERT INTO goqueue.job_history (
        id, created_at, run_at, attempted_at, cancel_requested_at, fence, timeout_s, attempt, max_attempts, crashes,
        max_crashes, state, priority, flags, worker_id, tenant, queue, group_key, kind, args, tags, meta, errors, progress,
        unique_key, key, key_window_s, finished_at, expires_on, result, reason)
    SELECT
        g.id, g.created_at, g.run_at, g.attempted_at, g.cancel_requested_at, g.fence, g.timeout_s, g.attempt + g.spent,
        g.max_attempts, g.crashes, g.max_crashes, g.state, g.priority, g.flags, g.worker_id, g.tenant, g.queue, g.group_key,
        g.kind, g.args, g.tags, g.meta,
        CASE WHEN g.error IS NULL THEN g.errors ELSE jsonb_path_query_array(
            coalesce(g.errors, '[]') || jsonb_build_array(jsonb_build_object('attempt', g.attempt, 'at',
                to_char(clock.now AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')) || g.error::jsonb),
            '$[last - 19 to last]') END,
        g.progress, g.unique_key, g.key, g.key_window_s, clock.now, g.expires_on,
        g.result::json, g.reason
    FROM gone AS g
    CROSS JOIN clock
),
freed AS (
    DELETE FROM goqueue.job_key AS k
    USING gone AS g
    WHERE g.flags & 1 = 1
      AND k.tenant = g.tenant AND k.queue = g.queue AND k.key = g.key AND k.job_id = g.id
      AND g.flags & (1 << g.state) = 0
),
still AS (
    UPDATE goqueue.job_key AS k
    SET until = least(coalesce(clock.now + make_interval(secs => g.key_window_s), 'infinity'), g.expires_on::timestamp AT TIME ZONE 'UTC')
    FROM gone AS g, clock
    WHERE g.flags & 1 = 1
      AND k.tenant = g.tenant AND k.queue = g.queue AND k.key = g.key AND k.job_id = g.id
      AND g.flags & (1 << g.state) <> 0
),
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
pick AS MATERIALIZED (
    SELECT j.tid, l.one, l.lane
    FROM unnest($15::text[], $16::int2[], $17::text[], $18::timestamptz[], $19::uuid[])
        WITH ORDINALITY AS u(queue, priority, group_key, run_at, id, lane)
    CROSS JOIN LATERAL (SELECT u.lane::int4 AS lane, 1 AS one) AS l
    CROSS JOIN LATERAL (
        SELECT j.ctid AS tid
        FROM goqueue.job AS j
        WHERE j.state = 0
          AND j.tenant = $14::text AND j.queue = u.queue AND j.priority = u.priority AND j.group_key = u.group_key
          AND j.run_at <= (SELECT now FROM clock) AND (j.run_at, j.id) > (u.run_at, u.id)
        ORDER BY j.run_at, j.id
        LIMIT $20::int4
        FOR UPDATE SKIP LOCKED
    ) AS j
    WHERE EXISTS (SELECT FROM goqueue.worker AS w WHERE w.id = $13::uuid AND w.expires_at > (SELECT now FROM clock))
      AND NOT u.queue = ANY (ARRAY(SELECT p.queue FROM goqueue.queue_pause AS p WHERE p.tenant = $14::text))
    LIMIT $20::int4
),
lease AS (
    UPDATE goqueue.job AS j
    SET state = 1, fence = j.fence + 1, attempt = j.attempt + 1, worker_id = $13::uuid, attempted_at = clock.now
    FROM pick, clock
    WHERE j.ctid = pick.tid AND pick.one = 1
    RETURNING
        j.id::text, pick.lane, j.fence, j.attempt, j.max_attempts, j.crashes, j.timeout_s, j.created_at, j.run_at, j.kind,
        j.args, j.tags, j.meta, j.attempted_at
)
SELECT
    m.missed, l.id, l.lane, l.fence, l.attempt, l.max_attempts, l.crashes, l.timeout_s, l.created_at, l.run_at, l.kind,
    l.args, l.tags, l.meta, l.attempted_at
FROM (
    SELECT CASE
        WHEN (SELECT count(*) FROM gone) + (SELECT count(*) FROM again) < coalesce(array_length($2::uuid[], 1), 0)
        THEN ARRAY(
            SELECT n::int4 FROM generate_series(1, array_length($2::uuid[], 1)) AS n
            WHERE n NOT IN (SELECT nth FROM gone UNION ALL SELECT nth FROM again))
        END AS missed
) AS m
LEFT JOIN lease AS l ON true
