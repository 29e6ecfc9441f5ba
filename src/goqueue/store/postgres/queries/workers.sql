-- workers: those whose rows exist, newest first.
-- $1 tenant  $2 limit  $3 now or null. Rows: as rows.worker_record reads them.
-- Indexes: none (few rows).
SELECT id::text, name, host, pid, version, queues, kinds, concurrency, running, idle, draining, started_at, beat_at, expires_at,
    extract(epoch FROM expires_at - coalesce($3::timestamptz, clock_timestamp()))::float8
FROM goqueue.worker WHERE tenant = $1::text ORDER BY started_at DESC, id LIMIT $2::int4
