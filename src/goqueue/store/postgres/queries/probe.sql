-- ping, open: is somebody there, and which schema. Reads nothing but the migrations' table.
-- No parameters. Rows: one: highest migration, and the isolation level of transactions that name none.
SELECT coalesce(max(version), 0), pg_catalog.current_setting('default_transaction_isolation') FROM goqueue.schema_migration
