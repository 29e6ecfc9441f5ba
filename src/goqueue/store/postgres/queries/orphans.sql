-- sweep: the orphans there are, to be taken back one by one when one of them is bad.
-- $1 now or null  $2 limit  $3 true: of missing workers; false: of expired ones. Rows: id.
-- Indexes: job_running, worker_pkey.
SELECT j.id::text
FROM goqueue.job AS j
LEFT JOIN goqueue.worker AS w ON w.id = j.worker_id
WHERE j.state = 1
  AND CASE WHEN $3::bool THEN w.id IS NULL ELSE w.expires_at <= coalesce($1::timestamptz, clock_timestamp()) END
LIMIT $2::int4
