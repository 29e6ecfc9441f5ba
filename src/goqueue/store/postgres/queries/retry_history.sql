-- change (retry): final jobs wait again, each due at its place in the row, with fence and attempt kept and at least one more
-- attempt and crash granted. A deadline that has passed is lifted: somebody wants the job all the same.
-- $1 now or null  $2 tenant  $3 ids  $4 earliest day on which any of them can expire  $5 arguments (JSON) or null: their own
-- $9 version of these arguments, or null: as before  $6 all ids of the change, for their places  $7 seconds until the first of them is due  $8 from each one to the next
-- Rows: id, 'changed' or 'key_held'. The others: ask change_check.
-- A job with a unique key must take it back: held by another job it stays final. Of an id that is history twice the later
-- end counts. Keys are locked and taken in their own order, and never while another job's hold stands: a settle that
-- frees it must not wait. A key that an open transaction takes is waited for, but not long (55P03: ask one by one).
-- Indexes: job_history_pkey, job_pkey (conflict), job_key_pkey (conflict).
WITH clock AS MATERIALIZED (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now),
patience AS MATERIALIZED (SELECT pg_catalog.set_config('lock_timeout', '500ms', true) AS is_set),
found AS MATERIALIZED (
    SELECT h.* FROM goqueue.job_history AS h
    WHERE h.id = ANY ($3::uuid[]) AND h.tenant = $2::text AND h.expires_on >= $4::date
      AND NOT EXISTS (SELECT FROM goqueue.job AS j WHERE j.id = h.id)
      AND NOT EXISTS (
          SELECT FROM goqueue.job_history AS l
          WHERE l.id = h.id AND l.id = ANY ($3::uuid[]) AND l.tenant = $2::text AND l.expires_on >= $4::date
            AND (l.finished_at, l.expires_on) > (h.finished_at, h.expires_on))
      AND (SELECT is_set FROM patience) IS NOT NULL
    FOR UPDATE OF h SKIP LOCKED
),
holds AS MATERIALIZED (
    SELECT k.tid, k.own
    FROM (SELECT * FROM found WHERE key IS NOT NULL ORDER BY tenant, queue, key OFFSET 0) AS f
    CROSS JOIN LATERAL (
        SELECT k.ctid AS tid, CASE WHEN k.until <= (SELECT now FROM clock) THEN 0 ELSE 1 END AS own
        FROM goqueue.job_key AS k
        WHERE k.tenant = f.tenant AND k.queue = f.queue AND k.key = f.key
          AND (k.job_id = f.id OR k.until <= (SELECT now FROM clock))
        FOR UPDATE
    ) AS k
),
expired AS (
    DELETE FROM goqueue.job_key AS k USING holds AS o WHERE k.ctid = o.tid AND o.own = 0 RETURNING k.job_id
),
own AS (
    UPDATE goqueue.job_key AS k SET until = NULL FROM holds AS o WHERE k.ctid = o.tid AND o.own = 1 RETURNING k.job_id
),
free AS (
    INSERT INTO goqueue.job_key (tenant, queue, key, job_id)
    SELECT DISTINCT ON (f.tenant, f.queue, f.key) f.tenant, f.queue, f.key, f.id
    FROM found AS f
    WHERE f.key IS NOT NULL AND (SELECT count(*) FROM expired) >= 0
    ORDER BY f.tenant, f.queue, f.key, array_position($3::uuid[], f.id)
    ON CONFLICT (tenant, queue, key) DO NOTHING
    RETURNING job_id
),
taken AS (SELECT job_id FROM own UNION ALL SELECT job_id FROM free),
back AS (
    DELETE FROM goqueue.job_history AS h USING found AS f
    WHERE h.id = f.id AND h.expires_on = f.expires_on AND (f.key IS NULL OR f.id IN (SELECT job_id FROM taken))
    RETURNING h.*
),
due AS (
    SELECT
        b.*, CASE WHEN b.deadline_at > clock.now THEN b.deadline_at END AS new_deadline_at,
        clock.now + make_interval(
            secs => least(316224000, $7::float8 + $8::float8 * (array_position($6::uuid[], b.id) - 1))) AS due_at
    FROM back AS b CROSS JOIN clock
),
live AS (
    INSERT INTO goqueue.job (
        id, created_at, run_at, attempted_at, fence, timeout_s, attempt, max_attempts, crashes, max_crashes, state, priority,
        flags, tenant, queue, group_key, kind, args, tags, meta, errors, progress, unique_key, key, key_window_s, retry,
        schedule_to_start_s, deadline_at, expire_at, first_attempted_at, logs)
    SELECT
        b.id, b.created_at, b.due_at, b.attempted_at, b.fence, b.timeout_s, b.attempt,
        greatest(b.max_attempts, b.attempt + 1), b.crashes, greatest(b.max_crashes, b.crashes + 1), 0, b.priority,
        b.flags, b.tenant, b.queue, b.group_key, b.kind, coalesce($5::text::json, b.args), b.tags,
        CASE WHEN $5::text IS NULL OR $9::int4 IS NULL THEN b.meta ELSE nullif(
            (coalesce(b.meta, '{}')::jsonb - 'goqueue.version')
            || CASE WHEN $9::int4 > 1 THEN jsonb_build_object('goqueue.version', $9::text) ELSE '{}' END, '{}')::json END,
        b.errors, b.progress,
        b.unique_key, b.key, b.key_window_s, b.retry, b.schedule_to_start_s, b.new_deadline_at,
        least(b.new_deadline_at, b.due_at + make_interval(secs => b.schedule_to_start_s)),
        CASE WHEN b.attempted_at IS NOT NULL THEN 'infinity'::timestamptz END, b.logs
    FROM due AS b
    RETURNING id
)
SELECT f.id::text, CASE WHEN f.id IN (SELECT id FROM live) THEN 'changed' ELSE 'key_held' END
FROM found AS f
