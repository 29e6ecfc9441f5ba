-- find: one page of final jobs, newest id first; looks at no more than $13 rows.
-- $1 now or null  $2 tenant  $3 before id  $4 page size  $5 to $11 as parts/find_where.sql  $12 unused
-- $13 rows to look at  $14 finished after  $15 finished before. Rows: job records, then finished_at, result, reason, the store's now.
-- Indexes: job_history_pkey (merged over the partitions).
SELECT j.* /*job_record*/, j.finished_at, j.result, j.reason, coalesce($1::timestamptz, clock_timestamp())
FROM (
    SELECT s.* FROM (
        SELECT * FROM goqueue.job_history WHERE id < $3::uuid ORDER BY id DESC LIMIT $13::int4
    ) AS s
    WHERE true /*find_where*/ AND $12::int2[] IS NULL
      AND ($14::timestamptz IS NULL OR s.finished_at >= $14::timestamptz)
      AND ($15::timestamptz IS NULL OR s.finished_at < $15::timestamptz)
    LIMIT $4::int4
) AS j
ORDER BY j.id DESC
