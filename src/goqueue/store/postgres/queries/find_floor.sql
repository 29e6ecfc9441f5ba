-- find: how far down the looks of a page reached in each table, when the page is short.
-- $1 before id  $2 rows looked at. Rows: one: the lowest id looked at in job, in history, among cancelled and dead;
--   null where the table's end was reached.
-- Indexes: job_pkey, job_history_pkey, job_history_failed.
SELECT
    (SELECT id::text FROM goqueue.job WHERE id < $1::uuid ORDER BY id DESC OFFSET $2::int4 - 1 LIMIT 1),
    (SELECT id::text FROM goqueue.job_history WHERE id < $1::uuid ORDER BY id DESC OFFSET $2::int4 - 1 LIMIT 1),
    (SELECT id::text FROM goqueue.job_history WHERE state >= 4 AND id < $1::uuid ORDER BY id DESC OFFSET $2::int4 - 1 LIMIT 1)
