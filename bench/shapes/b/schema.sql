-- Shape B: `job` holds only what is not final; a settle moves final rows into `job_history`.
DROP SCHEMA IF EXISTS goqueue CASCADE;
CREATE SCHEMA goqueue;

CREATE TABLE goqueue.worker (
    id uuid PRIMARY KEY,
    expires_at timestamptz NOT NULL
);

CREATE TABLE goqueue.job (
    id uuid PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    run_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempted_at timestamptz,
    cancel_requested_at timestamptz,
    fence bigint NOT NULL DEFAULT 0,
    timeout_s double precision,
    attempt integer NOT NULL DEFAULT 0,
    max_attempts integer NOT NULL DEFAULT 20,
    state smallint NOT NULL DEFAULT 0,
    priority smallint NOT NULL DEFAULT 5,
    crashes smallint NOT NULL DEFAULT 0,
    max_crashes smallint NOT NULL DEFAULT 3,
    flags smallint NOT NULL DEFAULT 0,
    worker_id uuid,
    tenant text COLLATE "C" NOT NULL DEFAULT 'default',
    queue text COLLATE "C" NOT NULL DEFAULT 'default',
    group_key text COLLATE "C" NOT NULL DEFAULT '',
    kind text COLLATE "C" NOT NULL,
    args json NOT NULL,
    tags text[],
    meta json,
    errors json,
    progress json,
    unique_key text COLLATE "C",
    key bytea
);

CREATE INDEX job_ready ON goqueue.job (tenant, queue, priority, group_key, run_at, id)
    WHERE state = 0;
CREATE INDEX job_running ON goqueue.job (worker_id) WHERE state = 1;

CREATE TABLE goqueue.job_history (
    LIKE goqueue.job,
    finished_at timestamptz NOT NULL,
    expires_on date NOT NULL,
    result json,
    PRIMARY KEY (id, expires_on)
) PARTITION BY RANGE (expires_on);
CREATE INDEX job_history_bad ON goqueue.job_history (tenant, queue, id) WHERE state IN (3, 4);

DO $$
BEGIN
    FOR day IN 0..9 LOOP
        EXECUTE format(
            'CREATE TABLE goqueue.job_history_%s PARTITION OF goqueue.job_history
             FOR VALUES FROM (%L) TO (%L)', day, current_date + day, current_date + day + 1);
    END LOOP;
END $$;
