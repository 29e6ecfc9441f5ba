-- history upkeep: does a term still stand? Asked before each change of the schema, in its transaction if it has one.
-- $1 now or null  $2 name of the election  $3 holder  $4 number. Rows: one: whether it does.
-- Indexes: leader_pkey.
SELECT true /*term*/ AS present
