-- diagnose: what a commit promises.
-- No parameters. Rows: one: fsync, full_page_writes, synchronous_commit of this session and where that comes from,
-- overrides of it for roles and databases as (role or '', database or '', value), synchronous_standby_names, how many
-- standbys are synchronous, how many there are (null: hidden from this role).
-- Indexes: none.
SELECT
    pg_catalog.current_setting('fsync')::boolean, pg_catalog.current_setting('full_page_writes')::boolean,
    pg_catalog.current_setting('synchronous_commit'),
    (SELECT s.source FROM pg_catalog.pg_settings AS s WHERE s.name = 'synchronous_commit'),
    (
        SELECT coalesce(json_agg(json_build_array(coalesce(r.rolname, ''), coalesce(d.datname, ''), split_part(c.entry, '=', 2))), '[]')
        FROM pg_catalog.pg_db_role_setting AS o
        CROSS JOIN LATERAL unnest(o.setconfig) AS c (entry)
        LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = o.setrole
        LEFT JOIN pg_catalog.pg_database AS d ON d.oid = o.setdatabase
        WHERE c.entry LIKE 'synchronous\_commit=%' AND (o.setdatabase = 0 OR d.datname = current_database())
    )::text,
    pg_catalog.current_setting('synchronous_standby_names'),
    (SELECT count(*) FROM pg_catalog.pg_stat_replication AS p WHERE p.sync_state IN ('sync', 'quorum')),
    (SELECT count(*) FROM pg_catalog.pg_stat_replication AS p)
