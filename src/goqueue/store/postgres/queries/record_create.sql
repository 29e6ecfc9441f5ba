-- write with version 0: create a record, unless a live one has the name.
-- $1 now or null  $2 name  $3 value  $4 ttl in seconds or null. Rows: version, if created.
-- Indexes: record_pkey (conflict).
INSERT INTO goqueue.record AS r (name, value, version, expires_at)
SELECT $2::text, $3::bytea, 1, clock.now + make_interval(secs => $4::float8)
FROM (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now OFFSET 0) AS clock
ON CONFLICT (name) DO UPDATE SET value = excluded.value, version = 1, expires_at = excluded.expires_at
WHERE r.expires_at <= coalesce($1::timestamptz, clock_timestamp())
RETURNING version
