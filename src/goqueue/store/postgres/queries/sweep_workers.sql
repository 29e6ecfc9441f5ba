-- sweep: forget workers that have expired and hold no running jobs.
-- $1 now or null  $2 limit. Rows: id of each that was forgotten.
-- Indexes: worker_pkey, job_running.
WITH gone AS MATERIALIZED (
    SELECT w.ctid AS tid FROM goqueue.worker AS w
    WHERE w.expires_at <= (SELECT coalesce($1::timestamptz, clock_timestamp()))
      AND NOT EXISTS (SELECT FROM goqueue.job AS j WHERE j.worker_id = w.id AND j.state = 1)
    LIMIT $2::int4
    FOR UPDATE SKIP LOCKED
)
DELETE FROM goqueue.worker AS w USING gone WHERE w.ctid = gone.tid RETURNING w.id::text
