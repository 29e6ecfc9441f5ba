-- enqueue: insert jobs in bulk. One row per element; a null in $5 means "now".
-- $1 ids  $2 tenants  $3 queues  $4 group keys  $5 delays in seconds  $6 priorities
-- $7 kinds  $8 args  $9 max_attempts  $10 timeouts  $11 tags (array literals)  $12 meta
-- Indexes: primary key, job_ready.
INSERT INTO goqueue.job (
    id, tenant, queue, group_key, run_at, priority, kind, args, max_attempts, timeout_s, tags, meta)
SELECT
    n.id, n.tenant, n.queue, n.group_key,
    clock_timestamp() + make_interval(secs => coalesce(n.delay_s, 0)),
    n.priority, n.kind, n.args::json, n.max_attempts, n.timeout_s, n.tags::text[], n.meta::json
FROM unnest(
    $1::uuid[], $2::text[], $3::text[], $4::text[], $5::float8[], $6::int2[],
    $7::text[], $8::text[], $9::int4[], $10::float8[], $11::text[], $12::text[])
    AS n(id, tenant, queue, group_key, delay_s, priority, kind, args, max_attempts, timeout_s,
         tags, meta)
