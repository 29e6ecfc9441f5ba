-- elect with ttl 0: give leadership up, so that another can take it at once.
-- $1 now or null  $2 name  $3 holder. Rows: none.
-- Indexes: leader_pkey.
UPDATE goqueue.leader SET expires_at = coalesce($1::timestamptz, clock_timestamp()) WHERE name = $2::text AND holder = $3::text
