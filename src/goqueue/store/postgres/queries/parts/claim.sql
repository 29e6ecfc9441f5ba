-- Claim up to $9 due jobs from lanes, in the order of the lanes, then by (run_at, id).
-- $1 now or null  $2 worker id  $3 tenant
-- lanes in the wanted order: $4 queues  $5 priorities  $6 group keys  $7 low-water run_at  $8 low-water id
-- $9 jobs in all
-- Indexes: job_ready, worker_pkey, queue_pause_pkey. The constant one says that few rows come, so that the write goes by
-- TID. Pauses are read into an array first: as an anti-join they could be hashed, and the lanes would lose their order.
turnstile AS MATERIALIZED (
    -- No row, but a lock on the table (ROW SHARE): a pause waits for the claims that began before it.
    SELECT FROM goqueue.queue_pause AS p WHERE p.tenant = $3::text AND p.queue = '' FOR KEY SHARE
),
pick AS MATERIALIZED (
    SELECT j.tid, l.one, l.lane
    FROM unnest($4::text[], $5::int2[], $6::text[], $7::timestamptz[], $8::uuid[])
        WITH ORDINALITY AS u(queue, priority, group_key, run_at, id, lane)
    CROSS JOIN LATERAL (SELECT u.lane::int4 AS lane, 1 AS one) AS l
    CROSS JOIN LATERAL (
        SELECT j.ctid AS tid
        FROM goqueue.job AS j
        WHERE j.state = 0
          AND j.tenant = $3::text AND j.queue = u.queue AND j.priority = u.priority AND j.group_key = u.group_key
          AND j.run_at <= (SELECT now FROM clock) AND (j.run_at, j.id) > (u.run_at, u.id)
        ORDER BY j.run_at, j.id
        LIMIT $9::int4
        FOR UPDATE SKIP LOCKED
    ) AS j
    WHERE EXISTS (SELECT FROM goqueue.worker AS w WHERE w.id = $2::uuid AND w.expires_at > (SELECT now FROM clock))
      AND NOT EXISTS (SELECT FROM turnstile)
      AND NOT u.queue = ANY (ARRAY(SELECT p.queue FROM goqueue.queue_pause AS p WHERE p.tenant = $3::text))
    LIMIT $9::int4
),
lease AS (
    UPDATE goqueue.job AS j
    SET state = 1, fence = j.fence + 1, attempt = j.attempt + 1, worker_id = $2::uuid, attempted_at = clock.now,
        -- A first attempt writes nothing: the second finds its instant in attempted_at.
        first_attempted_at = CASE
            WHEN j.attempted_at IS NULL THEN NULL
            WHEN j.first_attempted_at = 'infinity' THEN clock.now
            ELSE coalesce(j.first_attempted_at, j.attempted_at)
        END
    FROM pick, clock
    WHERE j.ctid = pick.tid AND pick.one = 1
    RETURNING
        j.id::text, pick.lane, j.fence, j.attempt, j.max_attempts, j.crashes, j.timeout_s, j.created_at, j.run_at, j.kind,
        j.args, j.tags, j.meta, j.attempted_at,
        CASE WHEN j.fence > 1 OR j.flags >= 64 OR j.max_crashes = 1 THEN json_build_object(
            'tried_for_s', extract(epoch FROM j.attempted_at - coalesce(j.first_attempted_at, j.attempted_at)),
            'start_in_s', extract(epoch FROM j.run_at - j.attempted_at) + j.schedule_to_start_s,
            'deadline_in_s', extract(epoch FROM j.deadline_at - j.attempted_at),
            'retry', j.retry,
            'max_crashes', CASE WHEN j.fence > 1 OR j.max_crashes = 1 THEN j.max_crashes END,
            'freed', CASE WHEN j.flags >= 128 THEN goqueue.free_key(j.tenant, j.queue, j.key, j.id) END)
        END AS rare
)
