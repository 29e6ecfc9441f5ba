-- change (retry): waiting jobs are due at their place in the row, if that is earlier than they were.
-- $1 now or null  $2 tenant  $3 ids  $4 seconds until the first of them is due  $5 from each one to the next
-- Rows: id, 'changed'. The others: ask retry_history and change_check.
-- A deadline that has passed is lifted: somebody wants the job all the same.
-- Indexes: job_pkey.
WITH clock AS MATERIALIZED (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now),
held AS MATERIALIZED (
    SELECT j.ctid AS tid, 1 AS one, j.due, CASE WHEN j.deadline_at > clock.now THEN j.deadline_at END AS deadline_at
    FROM clock
    CROSS JOIN LATERAL (
        SELECT
            j.ctid, j.deadline_at, j.run_at,
            clock.now + make_interval(
                secs => least(316224000, $4::float8 + $5::float8 * (array_position($3::uuid[], j.id) - 1))) AS due
        FROM goqueue.job AS j
        WHERE j.id = ANY ($3::uuid[]) AND j.tenant = $2::text AND j.state + 0 = 0 AND j.run_at > clock.now
        FOR UPDATE SKIP LOCKED
    ) AS j
    WHERE j.run_at > j.due
)
UPDATE goqueue.job AS j
SET run_at = h.due, deadline_at = h.deadline_at,
    expire_at = least(h.deadline_at, h.due + make_interval(secs => j.schedule_to_start_s)),
    first_attempted_at = CASE WHEN j.attempted_at IS NOT NULL THEN 'infinity'::timestamptz END
FROM held AS h WHERE j.ctid = h.tid AND h.one = 1
RETURNING j.id::text, 'changed'
