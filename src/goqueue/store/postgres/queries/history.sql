-- history: final jobs by id.
-- $1 now or null  $2 tenant  $3 ids  $4 earliest day on which any of them can expire
-- Rows: job records, then finished_at, result, reason, the store's now.
-- Indexes: job_history_pkey.
SELECT j.* /*job_record*/, j.finished_at, j.result, j.reason, coalesce($1::timestamptz, clock_timestamp())
FROM goqueue.job_history AS j
WHERE j.id = ANY ($3::uuid[]) AND j.tenant = $2::text AND j.expires_on >= $4::date
