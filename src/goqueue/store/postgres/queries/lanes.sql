-- lanes: the live lanes of some queues and where each begins: a skip scan over job_ready.
-- $1 now or null  $2 tenant  $3 queues  $4 lanes at most
-- Rows: queue, priority, group key, run_at and id of the first due job. Lanes whose first job is not due, and
--   paused queues, are left out.
-- Indexes: job_ready, queue_pause_pkey. The queues are hidden in a SELECT: seen by the planner, they make a plan for these
--   queues look cheaper than one for any, and it would plan each time.
WITH RECURSIVE clock AS MATERIALIZED (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now),
lane AS (
    SELECT q.queue, f.priority, f.group_key, f.run_at, f.id
    FROM unnest((SELECT $3::text[])) AS q(queue)
    CROSS JOIN LATERAL (
        SELECT j.priority, j.group_key, j.run_at, j.id FROM goqueue.job AS j
        WHERE j.state = 0 AND j.tenant = $2::text AND j.queue = q.queue
        ORDER BY j.priority, j.group_key, j.run_at, j.id LIMIT 1) AS f
    WHERE NOT q.queue = ANY (ARRAY(SELECT p.queue FROM goqueue.queue_pause AS p WHERE p.tenant = $2::text))
    UNION ALL
    SELECT l.queue, f.priority, f.group_key, f.run_at, f.id
    FROM lane AS l
    CROSS JOIN LATERAL (
        SELECT j.priority, j.group_key, j.run_at, j.id FROM goqueue.job AS j
        WHERE j.state = 0 AND j.tenant = $2::text AND j.queue = l.queue
          AND (j.priority, j.group_key) > (l.priority, l.group_key)
        ORDER BY j.priority, j.group_key, j.run_at, j.id LIMIT 1) AS f
)
SELECT l.queue, l.priority, l.group_key, l.run_at, l.id::text
FROM lane AS l
WHERE l.run_at <= (SELECT now FROM clock)
LIMIT $4::int4
