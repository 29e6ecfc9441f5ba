-- The errors of a job whose attempt has ended, with h.error if there is one; the oldest go when there are too many.
CASE WHEN h.error IS NULL THEN j.errors ELSE jsonb_path_query_array(
    coalesce(j.errors, '[]') || jsonb_build_array(jsonb_build_object('attempt', j.attempt, 'at',
        to_char((SELECT now FROM clock) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')) || h.error::jsonb),
    '$[last - 19 to last]') END
