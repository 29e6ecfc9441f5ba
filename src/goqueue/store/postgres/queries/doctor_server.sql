-- diagnose: which server this is, who we are there, and what it lets us see.
-- No parameters. Rows: one: its version as a number and as text, whether it is a standby, whether transactions are
-- read-only by default, our role, whether that sees other roles' sessions, how many sessions it cannot see.
-- Indexes: none.
SELECT
    pg_catalog.current_setting('server_version_num')::int4, pg_catalog.current_setting('server_version'),
    pg_catalog.pg_is_in_recovery(),
    (SELECT s.reset_val = 'on' FROM pg_catalog.pg_settings AS s WHERE s.name = 'default_transaction_read_only'),
    current_user::text, pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE'),
    (SELECT count(*) FROM pg_catalog.pg_stat_activity AS a WHERE a.datname = current_database() AND a.query = '<insufficient privilege>')
