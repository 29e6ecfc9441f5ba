-- change: how jobs stand that a change did not write. One snapshot over live and history.
-- $1 tenant  $2 ids  $3 earliest day on which any of them can expire  $4 now or null
-- Rows: id, stored state, whether its cancellation was requested, in how many seconds it is due.
-- Indexes: job_pkey, job_history_pkey.
SELECT j.id::text, j.state, j.cancel_requested_at IS NOT NULL,
    extract(epoch FROM j.run_at - coalesce($4::timestamptz, clock_timestamp()))::float8
FROM goqueue.job AS j WHERE j.id = ANY ($2::uuid[]) AND j.tenant = $1::text
UNION ALL
SELECT j.id::text, j.state, j.cancel_requested_at IS NOT NULL,
    extract(epoch FROM j.run_at - coalesce($4::timestamptz, clock_timestamp()))::float8
FROM goqueue.job_history AS j WHERE j.id = ANY ($2::uuid[]) AND j.tenant = $1::text AND j.expires_on >= $3::date
