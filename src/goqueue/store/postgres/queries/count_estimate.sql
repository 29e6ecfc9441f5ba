-- count: the planner's idea of how many jobs wait and run, for counts that were cut short.
-- No parameters. Rows: one: entries of job_ready and of job_running, as of the last vacuum or analyze.
SELECT
    (SELECT greatest(reltuples, 0)::int8 FROM pg_catalog.pg_class WHERE oid = 'goqueue.job_ready'::regclass),
    (SELECT greatest(reltuples, 0)::int8 FROM pg_catalog.pg_class WHERE oid = 'goqueue.job_running'::regclass)
