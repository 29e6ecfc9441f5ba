-- change (retry): waiting jobs are due now.
-- $1 now or null  $2 tenant  $3 ids. Rows: id, 'changed'. The others: ask retry_history and change_check.
-- Indexes: job_pkey.
WITH held AS MATERIALIZED (
    SELECT j.ctid AS tid, 1 AS one FROM goqueue.job AS j
    WHERE j.id = ANY ($3::uuid[]) AND j.tenant = $2::text AND j.state + 0 = 0
      AND j.run_at > (SELECT coalesce($1::timestamptz, clock_timestamp()))
    FOR UPDATE SKIP LOCKED
)
UPDATE goqueue.job AS j SET run_at = (SELECT coalesce($1::timestamptz, clock_timestamp()))
FROM held AS h WHERE j.ctid = h.tid AND h.one = 1
RETURNING j.id::text, 'changed'
