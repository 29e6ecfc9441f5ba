-- find: one page of jobs that are not final, newest id first; looks at no more than $13 rows.
-- $1 now or null  $2 tenant  $3 before id  $4 page size  $5 to $11 as parts/find_where.sql
-- $12 public states of waiting jobs (1 ready, 2 scheduled, 3 retrying) or null  $13 rows to look at
-- Rows: job records, then finished_at, result, reason, the store's now.
-- Indexes: job_pkey.
WITH clock AS MATERIALIZED (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now)
SELECT j.* /*job_record*/, NULL::timestamptz, NULL::json, CASE WHEN j.state = 0 THEN j.reason END, (SELECT now FROM clock)
FROM (
    SELECT s.* FROM (
        SELECT * FROM goqueue.job WHERE id < $3::uuid ORDER BY id DESC LIMIT $13::int4
    ) AS s
    WHERE true /*find_where*/
      AND ($12::int2[] IS NULL OR s.state <> 0 OR
           CASE WHEN s.run_at <= (SELECT now FROM clock) THEN 1 WHEN s.attempt = 0 THEN 2 ELSE 3 END = ANY ($12::int2[]))
    LIMIT $4::int4
) AS j
ORDER BY j.id DESC
