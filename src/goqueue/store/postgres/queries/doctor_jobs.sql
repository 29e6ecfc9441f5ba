-- diagnose: jobs that run far longer than their timeout, and paused queues.
-- $1 now  $2 times the timeout  $3 seconds at least  $4 limit. Rows: kind of the row (running, paused), then for a job: id,
-- its kind, seconds since it was claimed, its timeout; for a queue: tenant, queue, seconds since, null.
-- Indexes: job_running, queue_pause_pkey.
WITH clock AS (
    SELECT coalesce($1::timestamptz, clock_timestamp()) AS now
), running AS (
    SELECT j.id::text AS id, j.kind, extract(epoch FROM clock.now - j.attempted_at)::float8 AS age_s, j.timeout_s
    FROM clock CROSS JOIN goqueue.job AS j
    WHERE j.state = 1 AND j.timeout_s IS NOT NULL
        AND extract(epoch FROM clock.now - j.attempted_at) > greatest($2::float8 * j.timeout_s, $3::float8)
    LIMIT $4::int4
), paused AS (
    SELECT p.tenant, p.queue, extract(epoch FROM clock.now - p.paused_at)::float8 AS age_s
    FROM clock CROSS JOIN goqueue.queue_pause AS p ORDER BY p.tenant, p.queue LIMIT $4::int4
)
SELECT 'running', id, kind, age_s, timeout_s FROM running
UNION ALL
SELECT 'paused', tenant, queue, age_s, NULL FROM paused
