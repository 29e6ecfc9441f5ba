-- How many seconds a job that becomes final now stays in history (null: for ever), by its queue and its final state.
-- Needs clock (kept_s: completed, cancelled, dead; kept_by_queue: the same by queue, or null), j, and h.ended (3 to 5).
CASE
    WHEN (SELECT kept_by_queue FROM clock) IS NULL OR NOT (SELECT kept_by_queue FROM clock) ? j.queue
    THEN (SELECT kept_s FROM clock)[h.ended - 2]
    ELSE ((SELECT kept_by_queue FROM clock) -> j.queue ->> (h.ended - 3))::float8
END
