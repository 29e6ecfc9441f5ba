-- Does the term under which a sweep was asked for still stand, and has not lapsed? Read by the statement that writes: a leader
-- that was away cannot go on where it stopped. $1 now or null  $2 name of its election (null: under none)  $3 holder
-- $4 number
($2::text IS NULL OR EXISTS (
    SELECT FROM goqueue.leader AS l
    WHERE l.name = $2::text AND l.holder = $3::text AND l.term = $4::int8
      AND l.expires_at > coalesce($1::timestamptz, clock_timestamp())))
