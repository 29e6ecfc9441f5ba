-- diagnose: jobs that were put off because a worker had no task of their kind.
-- $1 now  $2 how the reason begins  $3 queues to look at  $4 lanes of each  $5 jobs of a lane on either side of now
-- $6 jobs of a queue  $7 jobs in all. Rows: tenant, queue, kind, jobs seen, whether a live worker of the queue has the kind.
-- No index has the reason: this is a sample. Jobs that were put off are due within a minute, or were a moment ago, so each
-- lane is looked at around now.
-- Indexes: job_ready (a skip scan finds queues and lanes).
WITH RECURSIVE clock AS MATERIALIZED (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now),
/*waiting_queues*/
sample AS MATERIALIZED (
    SELECT q.tenant, q.queue, s.kind, s.reason
    FROM (SELECT name.tenant, name.queue FROM name LIMIT $3::int4) AS q
    CROSS JOIN clock
    CROSS JOIN LATERAL (
        WITH RECURSIVE lane AS (
            (
                SELECT j.priority, j.group_key FROM goqueue.job AS j
                WHERE j.state = 0 AND j.tenant = q.tenant AND j.queue = q.queue
                ORDER BY j.priority, j.group_key LIMIT 1
            )
            UNION ALL
            SELECT n.priority, n.group_key FROM lane AS l CROSS JOIN LATERAL (
                SELECT j.priority, j.group_key FROM goqueue.job AS j
                WHERE j.state = 0 AND j.tenant = q.tenant AND j.queue = q.queue
                  AND (j.priority, j.group_key) > (l.priority, l.group_key)
                ORDER BY j.priority, j.group_key LIMIT 1) AS n
        )
        SELECT j.kind, j.reason
        FROM (SELECT * FROM lane LIMIT $4::int4) AS l
        CROSS JOIN LATERAL (
            (
                SELECT j.kind, j.reason FROM goqueue.job AS j
                WHERE j.state = 0 AND j.tenant = q.tenant AND j.queue = q.queue AND j.priority = l.priority
                  AND j.group_key = l.group_key AND j.run_at > clock.now
                ORDER BY j.run_at, j.id LIMIT $5::int4
            )
            UNION ALL
            (
                SELECT j.kind, j.reason FROM goqueue.job AS j
                WHERE j.state = 0 AND j.tenant = q.tenant AND j.queue = q.queue AND j.priority = l.priority
                  AND j.group_key = l.group_key AND j.run_at <= clock.now
                ORDER BY j.run_at DESC, j.id DESC LIMIT $5::int4
            )
        ) AS j
        LIMIT $6::int4
    ) AS s
    LIMIT $7::int4
)
SELECT
    s.tenant, s.queue, s.kind, count(*),
    EXISTS (
        SELECT FROM goqueue.worker AS w
        WHERE w.tenant = s.tenant AND w.expires_at > (SELECT now FROM clock) AND s.queue = ANY (w.queues)
          AND s.kind = ANY (w.kinds))
FROM sample AS s
WHERE starts_with(s.reason, $2::text)
GROUP BY s.tenant, s.queue, s.kind
ORDER BY count(*) DESC, s.tenant, s.queue, s.kind
LIMIT $3::int4
