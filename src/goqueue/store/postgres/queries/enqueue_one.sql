-- enqueue: insert one job without a unique key.
-- $1 now or null  $2 id  $3 tenant  $4 queue  $5 group key  $6 run_at or null  $7 delay in seconds
-- $8 priority  $9 kind  $10 args  $11 max_attempts  $12 max_crashes  $13 timeout or null  $14 tags or null  $15 meta or null
-- $16 topic to notify with the commit, or null. (Two statements in a pipeline would do; one is faster.)
-- Rows: id, created_at, run_at if it was inserted.
-- Indexes: job_pkey (conflict), job_ready.
INSERT INTO goqueue.job (
    id, created_at, run_at, tenant, queue, group_key, priority, kind, args, max_attempts, max_crashes, timeout_s, tags, meta)
SELECT
    $2::uuid, clock.now,
    greatest(clock.now, coalesce($6::timestamptz, clock.now + make_interval(secs => $7::float8))),
    $3::text, $4::text, $5::text, $8::int2, $9::text, $10::text::json, $11::int4, $12::int4, $13::float8,
    $14::text::text[], $15::text::json
FROM (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now OFFSET 0) AS clock
ON CONFLICT (id) DO NOTHING
RETURNING
    id::text, created_at, run_at,
    (SELECT pg_catalog.pg_notify('goqueue', $16::text)::text WHERE $16::text IS NOT NULL)
