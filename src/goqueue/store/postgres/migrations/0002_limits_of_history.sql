-- Limits in time of final jobs: what 0003 adds to live ones. A migration of its own, so that no transaction waits for a
-- lock on one of the two tables while it holds one on the other: settles need both.

ALTER TABLE goqueue.job_history
    ADD COLUMN retry json,
    ADD COLUMN schedule_to_start_s double precision,
    ADD COLUMN deadline_at timestamptz,
    ADD COLUMN expire_at timestamptz,
    ADD COLUMN first_attempted_at timestamptz;
