-- get: jobs by id, live and history under one snapshot, so that one which moves between them is never missed.
-- $1 now or null  $2 tenant  $3 ids  $4 earliest day on which any of them can expire
-- Rows: job records, then finished_at, result, reason, the store's now.
-- Indexes: job_pkey, job_history_pkey.
WITH clock AS MATERIALIZED (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now)
SELECT j.* /*job_record*/, NULL::timestamptz, NULL::json, CASE WHEN j.state = 0 THEN j.reason END, (SELECT now FROM clock)
FROM goqueue.job AS j
WHERE j.id = ANY ($3::uuid[]) AND j.tenant = $2::text
UNION ALL
SELECT j.* /*job_record*/, j.finished_at, j.result, j.reason, (SELECT now FROM clock)
FROM goqueue.job_history AS j
WHERE j.id = ANY ($3::uuid[]) AND j.tenant = $2::text AND j.expires_on >= $4::date
