-- $1 to $15 are those of enqueue.sql. Arrays are unnested side by side in a target list, which keeps nothing; unnest of
-- many arrays in FROM stores each of them once more, a fifth of the statement's time.
INSERT INTO goqueue.job (
    id, created_at, run_at, tenant, queue, group_key, priority, kind, args, max_attempts, max_crashes, timeout_s, tags, meta)
SELECT
    n.id, clock.now,
    greatest(clock.now, coalesce(n.run_at, clock.now + make_interval(secs => n.delay_s))),
    n.tenant, n.queue, n.group_key, n.priority, n.kind, n.args::json, n.max_attempts, n.max_crashes, n.timeout_s,
    n.tags::text[], n.meta::json
FROM (
    SELECT
        unnest($2::uuid[]) AS id, unnest($3::text[]) AS tenant, unnest($4::text[]) AS queue, unnest($5::text[]) AS group_key,
        unnest($6::timestamptz[]) AS run_at, unnest($7::float8[]) AS delay_s, unnest($8::int2[]) AS priority,
        unnest($9::text[]) AS kind, unnest($10::text[]) AS args, unnest($11::int4[]) AS max_attempts,
        unnest($12::int4[]) AS max_crashes, unnest($13::float8[]) AS timeout_s, unnest($14::text[]) AS tags,
        unnest($15::text[]) AS meta) AS n
CROSS JOIN clock
