-- The queues with waiting jobs, by a skip scan over job_ready. The statement bounds how many it looks at.
name AS (
    (SELECT j.tenant, j.queue FROM goqueue.job AS j WHERE j.state = 0 ORDER BY j.tenant, j.queue LIMIT 1)
    UNION ALL
    SELECT n.tenant, n.queue FROM name CROSS JOIN LATERAL (
        SELECT j.tenant, j.queue FROM goqueue.job AS j
        WHERE j.state = 0 AND (j.tenant, j.queue) > (name.tenant, name.queue)
        ORDER BY j.tenant, j.queue LIMIT 1) AS n
),
