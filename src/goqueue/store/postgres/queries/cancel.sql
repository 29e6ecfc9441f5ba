-- change (cancel): waiting and blocked jobs become cancelled, running ones are asked to stop.
-- $1 now or null  $2 tenant  $3 ids  $4 reason  $5 retentions in seconds of completed, cancelled and dead jobs (null: for
--   ever)  $6 the same by queue, or null
-- Rows: id, 'changed' or 'requested'. Ids that were locked, final, unknown or asked before have no row: ask change_check.
-- Indexes: job_pkey, job_key_pkey.
WITH clock AS MATERIALIZED (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now),
held AS MATERIALIZED (
    SELECT j.ctid AS tid, j.state, 4 AS ended, 1 AS one FROM goqueue.job AS j
    WHERE j.id = ANY ($3::uuid[]) AND j.tenant = $2::text AND (j.state + 0 <> 1 OR j.cancel_requested_at IS NULL)
    FOR UPDATE SKIP LOCKED
),
gone AS (
    DELETE FROM goqueue.job AS j USING held AS h
    WHERE j.ctid = h.tid AND h.one = 1 AND h.state <> 1
    RETURNING
        j.* /*ending*/, (SELECT now FROM clock) AS cancel_requested_at, j.fence, j.attempt, j.crashes, j.errors, h.ended,
        NULL::json AS result, coalesce(nullif($4::text, ''), 'cancelled') AS reason, true /*expires_on $5 $6*/ AS expires_on
),
/*finish*/
asked AS (
    UPDATE goqueue.job AS j SET cancel_requested_at = clock.now
    FROM held AS h, clock
    WHERE j.ctid = h.tid AND h.one = 1 AND h.state = 1
    RETURNING j.id
)
SELECT id::text, 'changed' FROM gone
UNION ALL
SELECT id::text, 'requested' FROM asked
