-- diagnose: connections in use, and how many more there may be.
-- No parameters. Rows: one: clients connected, of these GoQueue's, max_connections, what of it is kept for superusers
-- and the like, the database's own limit (-1: none) and its connections, our role's limit (-1: none) and its.
-- Indexes: none.
SELECT
    -- Of sessions that are hidden from this role the type is, too; background processes have no user.
    count(*) FILTER (WHERE coalesce(a.backend_type, CASE WHEN a.usename IS NULL THEN '' ELSE 'client backend' END) = 'client backend'),
    count(*) FILTER (WHERE a.application_name LIKE 'goqueue%'),
    pg_catalog.current_setting('max_connections')::int8,
    pg_catalog.current_setting('superuser_reserved_connections')::int8
        + coalesce(nullif(pg_catalog.current_setting('reserved_connections', true), ''), '0')::int8,
    (SELECT d.datconnlimit FROM pg_catalog.pg_database AS d WHERE d.datname = current_database()),
    count(*) FILTER (WHERE a.datname = current_database()),
    (SELECT r.rolconnlimit FROM pg_catalog.pg_roles AS r WHERE r.rolname = session_user),
    count(*) FILTER (WHERE a.usename = session_user)
FROM pg_catalog.pg_stat_activity AS a
