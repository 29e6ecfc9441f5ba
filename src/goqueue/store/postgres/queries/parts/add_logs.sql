-- The logs of job j with the news l.logs ([{n, age_s, level, message}], or null), the newest 100. What an earlier write under
-- the same fence has brought is not added again. Needs clock.
CASE WHEN l.logs IS NULL THEN j.logs ELSE (
    SELECT jsonb_path_query_array(
        coalesce(j.logs, '[]') || coalesce(jsonb_agg(jsonb_build_object(
            'attempt', j.attempt, 'level', e.level, 'message', e.message, 'fence', j.fence, 'n', e.n,
            'at', to_char(((SELECT now FROM clock) - make_interval(secs => e.age_s)) AT TIME ZONE 'UTC',
                'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')) ORDER BY e.n), '[]'),
        '$[last - 99 to last]')
    FROM jsonb_to_recordset(l.logs::jsonb) AS e(n int4, age_s float8, level text, message text)
    WHERE e.n > CASE WHEN (j.logs #>> '{-1,fence}')::int8 = j.fence THEN (j.logs #>> '{-1,n}')::int4 ELSE 0 END
) END
