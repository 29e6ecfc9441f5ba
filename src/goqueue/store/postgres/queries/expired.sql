-- sweep: jobs that were not started in time, to be ended one by one when one of them is bad.
-- $1 now or null  $2 limit. Rows: id.
-- Indexes: job_expire.
SELECT j.id::text FROM goqueue.job AS j
WHERE j.expire_at <= (SELECT coalesce($1::timestamptz, clock_timestamp())) AND j.state <> 1
ORDER BY j.expire_at LIMIT $2::int4
