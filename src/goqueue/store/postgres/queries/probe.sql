-- ping, open: is somebody there, and which schema. Reads nothing but the migrations' table.
-- No parameters. Rows: one: highest migration, when it was applied.
SELECT coalesce(max(version), 0), max(applied_at) FROM goqueue.schema_migration
