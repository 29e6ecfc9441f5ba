-- How many seconds a job that becomes final now stays in history (null: for ever), by its queue and its final state.
-- Needs j and h.ended (3 to 5). $1 seconds for completed, cancelled and dead jobs  $2 the same by queue, or null
CASE WHEN $2::jsonb IS NULL OR NOT $2::jsonb ? j.queue THEN ($1::float8[])[h.ended - 2]
    ELSE ($2::jsonb -> j.queue ->> (h.ended - 3))::float8 END
