-- diagnose: the history's partitions.
-- No parameters. Rows: name, its bound, whether a concurrent detach was cut short, the rows that it seems to have.
-- Indexes: none.
SELECT c.relname::text, pg_catalog.pg_get_expr(c.relpartbound, c.oid), i.inhdetachpending, greatest(c.reltuples, 0)::int8
FROM pg_catalog.pg_inherits AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid
WHERE i.inhparent = 'goqueue.job_history'::regclass
ORDER BY c.relname
