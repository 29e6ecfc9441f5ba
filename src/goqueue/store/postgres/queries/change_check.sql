-- change: how jobs stand that a change did not write. One snapshot over live and history.
-- $1 tenant  $2 ids  $3 earliest day on which any of them can expire
-- Rows: id, stored state, whether its cancellation was requested, run_at.
-- Indexes: job_pkey, job_history_pkey.
SELECT j.id::text, j.state, j.cancel_requested_at IS NOT NULL, j.run_at
FROM goqueue.job AS j WHERE j.id = ANY ($2::uuid[]) AND j.tenant = $1::text
UNION ALL
SELECT j.id::text, j.state, j.cancel_requested_at IS NOT NULL, j.run_at
FROM goqueue.job_history AS j WHERE j.id = ANY ($2::uuid[]) AND j.tenant = $1::text AND j.expires_on >= $3::date
