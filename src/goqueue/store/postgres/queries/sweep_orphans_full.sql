-- sweep: take running jobs back whose worker row is missing. Reads all running jobs, so it is paced by its caller.
-- $1 now or null  $2 limit  $3 retention of cancelled and $4 of dead in seconds (null: for ever)  $5 only this job, or null
-- Rows: one: how many jobs were taken back.
-- Indexes: job_running, worker_pkey, job_pkey.
WITH clock AS MATERIALIZED (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now),
held AS MATERIALIZED (
    SELECT j.ctid AS tid, 1 AS one
    FROM goqueue.job AS j
    WHERE j.state = 1 AND ($5::uuid IS NULL OR j.id = $5::uuid)
      AND NOT EXISTS (SELECT FROM goqueue.worker AS w WHERE w.id = j.worker_id)
    LIMIT $2::int4
    FOR UPDATE SKIP LOCKED
)
/*take_back*/
SELECT (SELECT count(*) FROM again)::int4 + (SELECT count(*) FROM gone)::int4
