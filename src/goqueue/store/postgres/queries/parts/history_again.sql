-- An id that is history already ends again on the same day (a client used it twice, or bytes of an old connection came
-- late): the later end stays. Without this its settle would fail for ever.
ON CONFLICT (id, expires_on) DO UPDATE SET (
    created_at, run_at, attempted_at, cancel_requested_at, fence, timeout_s, attempt, max_attempts, crashes,
    max_crashes, state, priority, flags, worker_id, tenant, queue, group_key, kind, args, tags, meta, errors,
    progress, unique_key, key, key_window_s, retry, schedule_to_start_s, deadline_at, finished_at, result, reason, logs
) = (
    excluded.created_at, excluded.run_at, excluded.attempted_at, excluded.cancel_requested_at, excluded.fence,
    excluded.timeout_s, excluded.attempt, excluded.max_attempts, excluded.crashes, excluded.max_crashes,
    excluded.state, excluded.priority, excluded.flags, excluded.worker_id, excluded.tenant, excluded.queue,
    excluded.group_key, excluded.kind, excluded.args, excluded.tags, excluded.meta, excluded.errors,
    excluded.progress, excluded.unique_key, excluded.key, excluded.key_window_s, excluded.retry,
    excluded.schedule_to_start_s, excluded.deadline_at, excluded.finished_at, excluded.result, excluded.reason,
    excluded.logs
)
