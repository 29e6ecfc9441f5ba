-- count: jobs that are not final per queue and state; looks at no more than $4 rows of a queue and of the running ones.
-- $1 now or null  $2 tenant  $3 queues or null  $4 rows to look at
-- Rows: queue, stored state, class of waiting (1 ready, 2 scheduled, 3 retrying), count, whether the look was cut short.
-- Indexes: job_ready (a skip scan finds the queues), job_running.
WITH RECURSIVE clock AS MATERIALIZED (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now),
q AS (
    (SELECT j.queue FROM goqueue.job AS j WHERE j.state = 0 AND j.tenant = $2::text ORDER BY j.queue LIMIT 1)
    UNION ALL
    SELECT n.queue FROM q CROSS JOIN LATERAL (
        SELECT j.queue FROM goqueue.job AS j
        WHERE j.state = 0 AND j.tenant = $2::text AND j.queue > q.queue ORDER BY j.queue LIMIT 1) AS n
)
SELECT q.queue, 0::int2, s.class::int2, count(*)::int8, sum(count(*)) OVER (PARTITION BY q.queue) >= $4::int4
FROM q CROSS JOIN LATERAL (
    SELECT CASE WHEN j.run_at <= (SELECT now FROM clock) THEN 1 WHEN j.attempt = 0 THEN 2 ELSE 3 END AS class
    FROM goqueue.job AS j WHERE j.state = 0 AND j.tenant = $2::text AND j.queue = q.queue LIMIT $4::int4) AS s
WHERE $3::text[] IS NULL OR q.queue = ANY ($3::text[])
GROUP BY q.queue, s.class
UNION ALL
SELECT r.queue, 1::int2, 0::int2, count(*)::int8, bool_or(r.seen >= $4::int4)
FROM (
    SELECT l.queue, l.tenant, count(*) OVER () AS seen
    FROM (SELECT j.queue, j.tenant FROM goqueue.job AS j WHERE j.state = 1 LIMIT $4::int4) AS l
) AS r
WHERE r.tenant = $2::text AND ($3::text[] IS NULL OR r.queue = ANY ($3::text[]))
GROUP BY r.queue
