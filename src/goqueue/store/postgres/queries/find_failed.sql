-- find: as find_history, for cancelled and dead jobs only, however many completed ones lie between them.
-- Parameters and rows as find_history.sql.
-- Indexes: job_history_failed (merged over the partitions).
SELECT j.* /*job_record*/, j.finished_at, j.result, j.reason, coalesce($1::timestamptz, clock_timestamp())
FROM (
    SELECT s.* FROM (
        SELECT * FROM goqueue.job_history WHERE state >= 4 AND id < $3::uuid ORDER BY id DESC LIMIT $13::int4
    ) AS s
    WHERE true /*find_where*/ AND $12::int2[] IS NULL
      AND ($14::timestamptz IS NULL OR s.finished_at >= $14::timestamptz)
      AND ($15::timestamptz IS NULL OR s.finished_at < $15::timestamptz)
    LIMIT $4::int4
) AS j
ORDER BY j.id DESC
