-- grant: is there such a role, and may we grant: PostgreSQL only warns when rights are passed on that one cannot pass on.
-- $1 name of the role. Rows: one: whether it exists, the database, whether we own the schema (true if there is none).
SELECT
    EXISTS (SELECT FROM pg_catalog.pg_roles AS r WHERE r.rolname = $1::text),
    pg_catalog.current_database()::text,
    coalesce(
        (SELECT pg_catalog.pg_has_role(n.nspowner, 'USAGE') FROM pg_catalog.pg_namespace AS n WHERE n.nspname = 'goqueue'), true)
