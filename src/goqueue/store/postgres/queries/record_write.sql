-- write: change a record if its version is still the expected one.
-- $1 now or null  $2 name  $3 value  $4 ttl in seconds or null  $5 expected version. Rows: new version, if written.
-- Indexes: record_pkey.
UPDATE goqueue.record SET
    value = $3::bytea, version = version + 1,
    expires_at = coalesce($1::timestamptz, clock_timestamp()) + make_interval(secs => $4::float8)
WHERE name = $2::text AND version = $5::int8
  AND (expires_at IS NULL OR expires_at > coalesce($1::timestamptz, clock_timestamp()))
RETURNING version
