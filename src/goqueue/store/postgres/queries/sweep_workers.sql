-- sweep: forget workers that have expired and hold no running jobs.
-- $1 now or null  $2 limit  $3 to $5 the term: election (null: none), holder, number  $6 seconds that they are kept on
--   for: what a claim of theirs has not committed yet is not seen here, and would be without a worker's row.
-- Rows: one: how many were forgotten, and whether the term is the present one.
-- Indexes: worker_pkey, job_running.
WITH term AS MATERIALIZED (SELECT true /*term $1 $3 $4 $5*/ AS present),
held AS MATERIALIZED (
    SELECT w.ctid AS tid FROM goqueue.worker AS w
    WHERE w.expires_at <= (SELECT coalesce($1::timestamptz, clock_timestamp()) - make_interval(secs => $6::float8)) AND (SELECT present FROM term)
      AND NOT EXISTS (SELECT FROM goqueue.job AS j WHERE j.worker_id = w.id AND j.state = 1)
    LIMIT $2::int4
    FOR UPDATE SKIP LOCKED
),
gone AS (
    DELETE FROM goqueue.worker AS w USING held WHERE w.ctid = held.tid RETURNING 1
)
SELECT (SELECT count(*) FROM gone)::int4, (SELECT present FROM term)
