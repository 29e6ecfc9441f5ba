-- extend: keep a worker alive, or register it.
-- $1 now or null  $2 id  $3 tenant  $4 ttl in seconds  $5 pid  $6 concurrency  $7 running  $8 idle  $9 draining
-- $10 name  $11 host  $12 version  $13 queues  $14 kinds
-- Rows: none. The row lock orders this against a sweep, which locks the rows of expired workers.
-- Indexes: worker_pkey.
INSERT INTO goqueue.worker AS w (
    id, tenant, started_at, beat_at, expires_at, pid, concurrency, running, idle, draining, name, host, version, queues, kinds)
SELECT
    $2::uuid, $3::text, clock.now, clock.now, clock.now + make_interval(secs => $4::float8), $5::int4, $6::int4, $7::int4,
    $8::bool, $9::bool, $10::text, $11::text, $12::text, $13::text[], $14::text[]
FROM (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now OFFSET 0) AS clock
ON CONFLICT (id) DO UPDATE SET
    beat_at = excluded.beat_at, expires_at = excluded.expires_at, running = excluded.running, idle = excluded.idle,
    draining = excluded.draining, concurrency = excluded.concurrency, queues = excluded.queues, kinds = excluded.kinds
