-- workers: those whose rows exist, newest first.
-- $1 tenant  $2 limit. Rows: as rows.worker_record reads them.
-- Indexes: none (few rows).
SELECT id::text, name, host, pid, version, queues, kinds, concurrency, running, idle, draining, started_at, beat_at, expires_at
FROM goqueue.worker WHERE tenant = $1::text ORDER BY started_at DESC, id LIMIT $2::int4
