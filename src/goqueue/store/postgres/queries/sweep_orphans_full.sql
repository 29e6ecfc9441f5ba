-- sweep: take running jobs back whose worker row is missing. Reads all running jobs, so it is paced by its caller.
-- Parameters and rows as sweep_orphans.sql.
-- Indexes: job_running, worker_pkey, job_pkey.
WITH clock AS MATERIALIZED (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now),
term AS MATERIALIZED (SELECT true /*term $1 $3 $4 $5*/ AS present),
held AS MATERIALIZED (
    SELECT j.ctid AS tid, 1 AS one
    FROM goqueue.job AS j
    WHERE j.state = 1 AND ($6::uuid IS NULL OR j.id = $6::uuid) AND (SELECT present FROM term)
      AND NOT EXISTS (SELECT FROM goqueue.worker AS w WHERE w.id = j.worker_id)
    LIMIT $2::int4
    FOR UPDATE SKIP LOCKED
)
/*take_back $7 $8 $9*/
SELECT (SELECT count(*) FROM again)::int4 + (SELECT count(*) FROM gone)::int4, (SELECT present FROM term)
