-- diagnose: the history's partitions, and tables that look as if they had been some.
-- No parameters. Rows: name, its bound (null: it is detached), whether a concurrent detach was cut short, the rows that it
-- seems to have.
-- Indexes: none.
SELECT c.relname::text, pg_catalog.pg_get_expr(c.relpartbound, c.oid), i.inhdetachpending, greatest(c.reltuples, 0)::int8
FROM pg_catalog.pg_inherits AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid
WHERE i.inhparent = 'goqueue.job_history'::regclass
UNION ALL
SELECT c.relname::text, NULL, false, greatest(c.reltuples, 0)::int8
FROM pg_catalog.pg_class AS c
WHERE c.relnamespace = 'goqueue'::regnamespace AND c.relkind = 'r' AND NOT c.relispartition
  AND c.relname ~ '^job_history_[0-9]{8}$'
ORDER BY 1
