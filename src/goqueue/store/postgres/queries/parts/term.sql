-- Does the term under which a sweep was asked for still stand, and has not lapsed? $1 now or null  $3 name of its election
-- (null: under none)  $4 holder  $5 number. Read by the statement that writes: a leader that was away cannot go on.
($3::text IS NULL OR EXISTS (
    SELECT FROM goqueue.leader AS l
    WHERE l.name = $3::text AND l.holder = $4::text AND l.term = $5::int8
      AND l.expires_at > coalesce($1::timestamptz, clock_timestamp())))
