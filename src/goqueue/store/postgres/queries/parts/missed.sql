-- The ordinals (from 1) of outcomes that were not written, or null. Needs parts/settle.sql. $1 ids
-- What was written is told from the writes themselves, not from the locks: a row whose newer version was committed after
-- this statement began can be locked here and still not be written.
CASE
    WHEN (SELECT count(*) FROM gone) + (SELECT count(*) FROM again) < coalesce(array_length($1::uuid[], 1), 0)
    THEN ARRAY(
        SELECT n::int4 FROM generate_series(1, array_length($1::uuid[], 1)) AS n
        WHERE n NOT IN (SELECT nth FROM gone UNION ALL SELECT nth FROM again))
END
