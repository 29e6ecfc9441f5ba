-- Jobs that have just become final move to history. Needs clock, and `gone` as parts/finish.sql says.
INSERT INTO goqueue.job_history (
    id, created_at, run_at, attempted_at, cancel_requested_at, fence, timeout_s, attempt, max_attempts, crashes,
    max_crashes, state, priority, flags, worker_id, tenant, queue, group_key, kind, args, tags, meta, errors, progress,
    unique_key, key, key_window_s, retry, schedule_to_start_s, deadline_at, finished_at, expires_on, result, reason, logs)
SELECT
    g.id, g.created_at, g.run_at, g.attempted_at, g.cancel_requested_at, g.fence, g.timeout_s, g.attempt, g.max_attempts,
    g.crashes, g.max_crashes, g.ended, g.priority, g.flags, g.worker_id, g.tenant, g.queue, g.group_key, g.kind, g.args,
    g.tags, g.meta, g.errors, g.progress, g.unique_key, g.key, g.key_window_s, g.retry, g.schedule_to_start_s,
    g.deadline_at, clock.now, g.expires_on, g.result, g.reason, g.logs
FROM gone AS g
CROSS JOIN clock
WHERE g.expires_on IS NOT NULL
