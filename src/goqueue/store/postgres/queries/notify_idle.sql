-- enqueue in a caller's transaction: wake each queue for which a worker has said that it is idle. Delivered at commit.
-- $1 now or null  $2 tenant  $3 queues. Rows: none of interest.
-- Indexes: none (few workers).
SELECT pg_catalog.pg_notify('goqueue', $2::text || '/' || q.queue)
FROM (SELECT DISTINCT queue FROM unnest($3::text[]) AS u(queue)) AS q
WHERE EXISTS (
    SELECT FROM goqueue.worker AS w
    WHERE w.tenant = $2::text AND w.idle AND q.queue = ANY (w.queues)
      AND w.expires_at > (SELECT coalesce($1::timestamptz, clock_timestamp())))
