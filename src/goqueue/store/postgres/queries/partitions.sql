-- history upkeep: the partitions there are.
-- No parameters. Rows: name, whether a concurrent detach was cut short.
SELECT c.relname::text, i.inhdetachpending
FROM pg_catalog.pg_inherits AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid
WHERE i.inhparent = 'goqueue.job_history'::regclass
ORDER BY c.relname
