-- diagnose: row versions, sizes, and whether anybody vacuums.
-- No parameters. Rows: one: live and dead rows of `job`, bytes of the table and of its indexes, seconds since it was last
-- vacuumed, autovacuum_enabled of the table (null: not set), unlogged tables, autovacuum and track_counts of the server,
-- age in XIDs of the database and of `job`, the age from which autovacuum freezes.
-- Indexes: none.
SELECT
    coalesce(s.n_live_tup, 0), coalesce(s.n_dead_tup, 0),
    pg_catalog.pg_table_size(c.oid), pg_catalog.pg_indexes_size(c.oid),
    extract(epoch FROM clock_timestamp() - greatest(s.last_autovacuum, s.last_vacuum))::float8,
    (SELECT o.option_value FROM pg_catalog.pg_options_to_table(c.reloptions) AS o WHERE o.option_name = 'autovacuum_enabled'),
    (
        SELECT coalesce(array_agg(u.relname::text ORDER BY u.relname), '{}') FROM pg_catalog.pg_class AS u
        WHERE u.relnamespace = c.relnamespace AND u.relkind = 'r' AND u.relpersistence = 'u'
    ),
    pg_catalog.current_setting('autovacuum')::boolean, pg_catalog.current_setting('track_counts')::boolean,
    pg_catalog.age(d.datfrozenxid), pg_catalog.age(c.relfrozenxid),
    pg_catalog.current_setting('autovacuum_freeze_max_age')::int8
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_database AS d ON d.datname = current_database()
LEFT JOIN pg_catalog.pg_stat_all_tables AS s ON s.relid = c.oid
WHERE c.oid = 'goqueue.job'::regclass
