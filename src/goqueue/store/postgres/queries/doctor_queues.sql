-- diagnose: queues that are paused, and those with due jobs that no live worker takes.
-- $1 now  $2 names of queues to look at  $3 queues to tell  $4 lanes of each to look at  $5 due jobs of each to count
-- Rows: tenant, queue, seconds since it was paused or null, whether a live worker takes its jobs, how many are due (of
-- those in the lanes looked at), seconds since the first of them was.
-- Indexes: job_ready (a skip scan finds queues and lanes), queue_pause_pkey.
WITH RECURSIVE clock AS MATERIALIZED (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now),
/*waiting_queues*/
seen AS MATERIALIZED (
    SELECT q.tenant, q.queue, p.paused_at, w.served
    FROM (
        SELECT s.tenant, s.queue FROM (SELECT name.tenant, name.queue FROM name LIMIT $2::int4) AS s
        UNION
        SELECT s.tenant, s.queue FROM (SELECT p.tenant, p.queue FROM goqueue.queue_pause AS p LIMIT $2::int4) AS s
    ) AS q
    LEFT JOIN goqueue.queue_pause AS p ON p.tenant = q.tenant AND p.queue = q.queue
    CROSS JOIN LATERAL (
        SELECT EXISTS (
            SELECT FROM goqueue.worker AS w
            WHERE w.tenant = q.tenant AND w.expires_at > (SELECT now FROM clock) AND NOT w.draining
              AND q.queue = ANY (w.queues)) AS served
    ) AS w
    WHERE p.paused_at IS NOT NULL OR NOT w.served
    LIMIT $3::int4
)
SELECT
    s.tenant, s.queue, extract(epoch FROM clock.now - s.paused_at)::float8, s.served, d.due,
    extract(epoch FROM clock.now - d.first_at)::float8
FROM seen AS s
CROSS JOIN clock
CROSS JOIN LATERAL (
    WITH RECURSIVE lane AS (
        (
            SELECT j.priority, j.group_key, j.run_at FROM goqueue.job AS j
            WHERE j.state = 0 AND j.tenant = s.tenant AND j.queue = s.queue
            ORDER BY j.priority, j.group_key, j.run_at, j.id LIMIT 1
        )
        UNION ALL
        SELECT n.priority, n.group_key, n.run_at FROM lane AS l CROSS JOIN LATERAL (
            SELECT j.priority, j.group_key, j.run_at FROM goqueue.job AS j
            WHERE j.state = 0 AND j.tenant = s.tenant AND j.queue = s.queue
              AND (j.priority, j.group_key) > (l.priority, l.group_key)
            ORDER BY j.priority, j.group_key, j.run_at, j.id LIMIT 1) AS n
    ),
    live AS MATERIALIZED (
        SELECT l.priority, l.group_key, l.run_at
        FROM (SELECT * FROM lane LIMIT $4::int4) AS l
        WHERE l.run_at <= clock.now
    )
    SELECT
        (SELECT min(live.run_at) FROM live) AS first_at,
        (
            SELECT count(*) FROM (
                SELECT FROM live CROSS JOIN LATERAL (
                    SELECT FROM goqueue.job AS j
                    WHERE j.state = 0 AND j.tenant = s.tenant AND j.queue = s.queue AND j.priority = live.priority
                      AND j.group_key = live.group_key AND j.run_at <= clock.now
                    LIMIT $5::int4) AS j
                LIMIT $5::int4) AS counted
        ) AS due
) AS d
WHERE s.paused_at IS NOT NULL OR d.due > 0
ORDER BY d.due DESC, s.tenant, s.queue
