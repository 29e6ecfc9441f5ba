-- diagnose: sessions that wait for a lock on tables of the schema, or hold one that makes others wait.
-- $1 limit. Rows: pid, application, user, state, seconds in its transaction (null: hidden), mode, table, whether it is
-- granted, pids that it waits for, whether it is idle inside its transaction.
-- Indexes: none (views of the server's memory).
SELECT
    l.pid, a.application_name, a.usename::text, coalesce(a.state, 'hidden'),
    extract(epoch FROM clock_timestamp() - a.xact_start)::float8, l.mode, c.relname::text, l.granted,
    CASE WHEN l.granted THEN '{}' ELSE pg_catalog.pg_blocking_pids(l.pid) END,
    coalesce(a.state LIKE 'idle in transaction%', false)
FROM pg_catalog.pg_locks AS l
JOIN pg_catalog.pg_class AS c ON c.oid = l.relation
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
WHERE n.nspname = 'goqueue' AND c.relkind IN ('r', 'p') AND l.locktype = 'relation' AND l.pid <> pg_catalog.pg_backend_pid()
    AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = current_database())
    AND (
        NOT l.granted
        OR l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
        OR (a.state LIKE 'idle in transaction%' AND l.mode <> 'AccessShareLock')
    )
ORDER BY l.granted, a.xact_start NULLS LAST, l.pid, c.relname
LIMIT $1::int4
