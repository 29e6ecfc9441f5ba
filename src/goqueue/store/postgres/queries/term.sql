-- history upkeep: does a term still stand? Asked before each change of the schema, in its transaction if it has one.
-- $1 now or null  $2 unused  $3 to $5 as parts/term.sql. Rows: one: whether it does.
-- Indexes: leader_pkey.
SELECT true /*term*/ AS present WHERE $2::text IS NULL
