-- read: one record.
-- $1 now or null  $2 name. Rows: value, version.
-- Indexes: record_pkey.
SELECT value, version FROM goqueue.record
WHERE name = $2::text AND (expires_at IS NULL OR expires_at > (SELECT coalesce($1::timestamptz, clock_timestamp())))
