-- change (cancel): waiting and blocked jobs become cancelled, running ones are asked to stop.
-- $1 now or null  $2 tenant  $3 ids  $4 reason  $5 retention in seconds (null: for ever)
-- Rows: id, 'changed' or 'requested'. Ids that were locked, final, unknown or asked before have no row: ask change_check.
-- Indexes: job_pkey, job_key_pkey.
WITH clock AS MATERIALIZED (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now),
held AS MATERIALIZED (
    SELECT j.ctid AS tid, j.state, 1 AS one FROM goqueue.job AS j
    WHERE j.id = ANY ($3::uuid[]) AND j.tenant = $2::text AND (j.state + 0 <> 1 OR j.cancel_requested_at IS NULL)
    FOR UPDATE SKIP LOCKED
),
gone AS (
    DELETE FROM goqueue.job AS j USING held AS h
    WHERE j.ctid = h.tid AND h.one = 1 AND h.state <> 1
    RETURNING
        j.*, 4 AS ended,
        coalesce((((SELECT now FROM clock) + make_interval(secs => $5::float8)) AT TIME ZONE 'UTC')::date + 1, 'infinity')
            AS expires_on
),
kept AS (
    INSERT INTO goqueue.job_history (
        id, created_at, run_at, attempted_at, cancel_requested_at, fence, timeout_s, attempt, max_attempts, crashes,
        max_crashes, state, priority, flags, worker_id, tenant, queue, group_key, kind, args, tags, meta, errors, progress,
        unique_key, key, key_window_s, finished_at, expires_on, result, reason)
    SELECT
        g.id, g.created_at, g.run_at, g.attempted_at, clock.now, g.fence, g.timeout_s, g.attempt, g.max_attempts, g.crashes,
        g.max_crashes, g.ended, g.priority, g.flags, g.worker_id, g.tenant, g.queue, g.group_key, g.kind, g.args, g.tags, g.meta,
        g.errors, g.progress, g.unique_key, g.key, g.key_window_s, clock.now, g.expires_on,
        NULL, coalesce(nullif($4::text, ''), 'cancelled')
    FROM gone AS g CROSS JOIN clock
    /*history_again*/
),
/*free_keys*/
asked AS (
    UPDATE goqueue.job AS j SET cancel_requested_at = clock.now
    FROM held AS h, clock
    WHERE j.ctid = h.tid AND h.one = 1 AND h.state = 1
    RETURNING j.id
)
SELECT id::text, 'changed' FROM gone
UNION ALL
SELECT id::text, 'requested' FROM asked
