-- sweep: take running jobs back from workers that have expired.
-- $1 now or null  $2 limit  $3 to $5 the term: election (null: none), holder, number  $6 only this job, or null  $7 retentions in seconds of completed,
--   cancelled and dead jobs (null: for ever)  $8 the same by queue, or null  $9 crash delay in seconds
-- Rows: one: how many jobs were taken back, and whether the term is the present one. Workers are locked first (a beat that
--   comes now waits, and finds its leases lost); a worker whose row is locked is beating right now, a job whose row is
--   locked is left for the next time.
-- Indexes: worker_pkey, job_running, job_pkey.
WITH clock AS MATERIALIZED (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now),
term AS MATERIALIZED (SELECT true /*term $1 $3 $4 $5*/ AS present),
expired AS MATERIALIZED (
    SELECT w.id FROM goqueue.worker AS w
    WHERE w.expires_at <= (SELECT now FROM clock) AND (SELECT present FROM term)
      AND EXISTS (
          SELECT FROM goqueue.job AS j WHERE j.worker_id = w.id AND j.state = 1 AND ($6::uuid IS NULL OR j.id = $6::uuid))
    ORDER BY w.expires_at
    LIMIT 100
    FOR UPDATE SKIP LOCKED
),
held AS MATERIALIZED (
    SELECT j.tid, 1 AS one
    FROM expired AS e
    CROSS JOIN LATERAL (
        SELECT j.ctid AS tid FROM goqueue.job AS j
        WHERE j.worker_id = e.id AND j.state = 1 AND ($6::uuid IS NULL OR j.id = $6::uuid)
        LIMIT $2::int4
        FOR UPDATE SKIP LOCKED
    ) AS j
    LIMIT $2::int4
)
/*take_back $7 $8 $9*/
SELECT (SELECT count(*) FROM again)::int4 + (SELECT count(*) FROM gone)::int4, (SELECT present FROM term)
