-- elect: become or stay leader, if the place is free, one's own, or has lapsed. A new holder raises the term.
-- $1 now or null  $2 name  $3 holder  $4 ttl in seconds. Rows: term, if elected.
-- Indexes: leader_pkey.
INSERT INTO goqueue.leader AS l (name, holder, term, expires_at)
SELECT $2::text, $3::text, 1, clock.now + make_interval(secs => $4::float8)
FROM (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now OFFSET 0) AS clock
ON CONFLICT (name) DO UPDATE SET
    holder = excluded.holder, expires_at = excluded.expires_at,
    term = l.term + CASE WHEN l.holder = excluded.holder AND l.expires_at > coalesce($1::timestamptz, clock_timestamp()) THEN 0 ELSE 1 END
WHERE l.holder = excluded.holder OR l.expires_at <= coalesce($1::timestamptz, clock_timestamp())
RETURNING term
