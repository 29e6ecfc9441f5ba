-- diagnose: who keeps old row versions from being vacuumed away, oldest first; the last column: locks on our tables.
-- $1 limit. Rows: source, name (pid, gid, slot), application, user, client, state, started s ago, XIDs of age, query,
-- whether it is idle inside a transaction, whether it holds locks on tables of the schema.
-- Indexes: none (views of the server's memory).
-- Sessions of other databases hold nothing back here; an autovacuum worker's snapshot is ignored by other vacuums.
WITH ours AS (
    SELECT c.oid FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = 'goqueue'
), holder AS (
    SELECT
        'session' AS source, a.pid::text AS name, a.application_name AS application, a.usename::text AS username,
        coalesce(a.client_addr::text, 'local') AS client, coalesce(a.state, 'hidden') AS state,
        extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS age_s,
        greatest(pg_catalog.age(a.backend_xmin), pg_catalog.age(a.backend_xid)) AS xids,
        left(a.query, 200) AS query,
        coalesce(a.state LIKE 'idle in transaction%', false) AS idle,
        EXISTS (
            SELECT FROM pg_catalog.pg_locks AS l WHERE l.pid = a.pid AND l.locktype = 'relation' AND l.relation IN (SELECT oid FROM ours)
        ) AS locks
    FROM pg_catalog.pg_stat_activity AS a
    WHERE a.datname = current_database() AND a.pid <> pg_catalog.pg_backend_pid()
        -- Of sessions that are hidden from this role the type is, too; an autovacuum worker has no user.
        AND coalesce(a.backend_type, CASE WHEN a.usename IS NULL THEN 'autovacuum worker' END, '') <> 'autovacuum worker'
        AND (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL OR a.state LIKE 'idle in transaction%')
    UNION ALL
    SELECT
        'standby', r.pid::text, r.application_name, r.usename::text, coalesce(r.client_addr::text, 'local'), coalesce(r.state, 'hidden'),
        NULL, pg_catalog.age(r.backend_xmin), NULL, false, false
    FROM pg_catalog.pg_stat_replication AS r WHERE r.backend_xmin IS NOT NULL
    UNION ALL
    SELECT
        'prepared', p.gid, NULL, p.owner::text, NULL, 'prepared',
        extract(epoch FROM clock_timestamp() - p.prepared)::float8, pg_catalog.age(p.transaction), NULL, false, true
    FROM pg_catalog.pg_prepared_xacts AS p WHERE p.database = current_database()
    UNION ALL
    SELECT
        'slot', s.slot_name::text, s.plugin::text, NULL, NULL, CASE WHEN s.active THEN 'active' ELSE 'inactive' END,
        NULL, greatest(pg_catalog.age(s.xmin), pg_catalog.age(s.catalog_xmin)), NULL, false, false
    FROM pg_catalog.pg_replication_slots AS s WHERE s.xmin IS NOT NULL OR s.catalog_xmin IS NOT NULL
)
SELECT source, name, application, username, client, state, age_s, xids, query, idle, locks
FROM holder
ORDER BY xids DESC NULLS LAST, age_s DESC NULLS LAST, name
LIMIT $1::int4
