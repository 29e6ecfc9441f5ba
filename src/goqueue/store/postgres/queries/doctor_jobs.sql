-- diagnose: jobs that run far longer than their timeout.
-- $1 now  $2 times the timeout  $3 seconds at least  $4 limit. Rows: id, kind, seconds since it was claimed, its timeout.
-- Indexes: job_running.
SELECT j.id::text, j.kind, extract(epoch FROM clock.now - j.attempted_at)::float8, j.timeout_s
FROM (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now) AS clock
CROSS JOIN goqueue.job AS j
WHERE j.state = 1 AND j.timeout_s IS NOT NULL
  AND extract(epoch FROM clock.now - j.attempted_at) > greatest($2::float8 * j.timeout_s, $3::float8)
LIMIT $4::int4
