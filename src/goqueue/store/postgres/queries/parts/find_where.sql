-- The conditions of a Filter, each off when its parameter is null. $2 tenant, $3 before id, $5 ids, $6 queues, $7 kinds,
-- $8 tags, $9 created after, $10 created before, $11 stored states.
(s.tenant = $2::text)
AND ($5::uuid[] IS NULL OR s.id = ANY ($5::uuid[]))
AND ($6::text[] IS NULL OR s.queue = ANY ($6::text[]))
AND ($7::text[] IS NULL OR s.kind = ANY ($7::text[]))
AND ($8::text[] IS NULL OR s.tags @> $8::text[])
AND ($9::timestamptz IS NULL OR s.created_at >= $9::timestamptz)
AND ($10::timestamptz IS NULL OR s.created_at < $10::timestamptz)
AND ($11::int2[] IS NULL OR s.state = ANY ($11::int2[]))
