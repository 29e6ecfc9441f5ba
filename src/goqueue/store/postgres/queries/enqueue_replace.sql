-- enqueue: give a holder that has not started the arguments, options and run_at of a newer job (on_conflict = replace).
-- $1 now or null  $2 holder's id  $3 key  $4 run_at or null  $5 delay in seconds  $6 priority  $7 kind  $8 args
-- $9 max_attempts  $10 max_crashes  $11 timeout or null  $12 tags or null  $13 meta or null  $14 group key
-- $15 retry delays (JSON) or null  $16 schedule_to_start_s or null  $17 deadline_s or null  $18 whether it keeps its run_at
-- Rows: its id, if it was waiting, still held its key, and nobody had it locked.
-- (A job that holds its key until it is started may wait again, and has it no more.)
-- Indexes: job_pkey, job_key_pkey.
WITH clock AS MATERIALIZED (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now),
held AS MATERIALIZED (
    SELECT
        j.ctid AS tid, 1 AS one, clock.now + make_interval(secs => $17::float8) AS deadline_at,
        CASE WHEN $18::bool THEN j.run_at
            ELSE greatest(clock.now, coalesce($4::timestamptz, clock.now + make_interval(secs => $5::float8))) END AS run_at
    FROM goqueue.job AS j, clock
    WHERE j.id = $2::uuid AND j.key = $3::bytea AND j.state + 0 IN (0, 2)
      AND (j.flags & 128 = 0 OR j.fence = 0 OR EXISTS (
          SELECT FROM goqueue.job_key AS k
          WHERE k.tenant = j.tenant AND k.queue = j.queue AND k.key = j.key AND k.job_id = j.id))
    FOR UPDATE OF j SKIP LOCKED
)
UPDATE goqueue.job AS j
SET run_at = held.run_at, priority = $6::int2, kind = $7::text, args = $8::text::json,
    max_attempts = greatest($9::int4, j.attempt + 1), max_crashes = $10::int4, timeout_s = $11::float8,
    reason = NULL, tags = $12::text::text[], meta = $13::text::json, group_key = $14::text, retry = $15::text::json,
    schedule_to_start_s = $16::float8, deadline_at = held.deadline_at,
    expire_at = least(held.deadline_at, held.run_at + make_interval(secs => $16::float8)),
    flags = (j.flags & ~64)
        | CASE WHEN coalesce($15::text, '') <> '' OR $16::float8 IS NOT NULL OR $17::float8 IS NOT NULL THEN 64 ELSE 0 END
FROM held
WHERE j.ctid = held.tid AND held.one = 1
RETURNING j.id::text
