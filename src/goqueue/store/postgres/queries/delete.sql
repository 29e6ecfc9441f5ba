-- change (delete): waiting, blocked and final jobs vanish, and free their keys whatever final states held them.
-- $1 tenant  $2 ids  $3 earliest day on which any of them can expire
-- Rows: id, 'changed'. The others: ask change_check. What history has under the id of a job that stays is left, too.
-- Indexes: job_pkey, job_history_pkey, job_key_pkey.
WITH held AS MATERIALIZED (
    SELECT j.ctid AS tid, 1 AS one FROM goqueue.job AS j
    WHERE j.id = ANY ($2::uuid[]) AND j.tenant = $1::text AND j.state + 0 <> 1
    FOR UPDATE SKIP LOCKED
),
live AS (
    DELETE FROM goqueue.job AS j USING held AS h WHERE j.ctid = h.tid AND h.one = 1
    RETURNING j.id, j.tenant, j.queue, j.key
),
found AS MATERIALIZED (
    SELECT h.id, h.expires_on FROM goqueue.job_history AS h
    WHERE h.id = ANY ($2::uuid[]) AND h.tenant = $1::text AND h.expires_on >= $3::date
      AND NOT EXISTS (
          SELECT FROM goqueue.job AS j WHERE j.id = h.id AND j.ctid <> ALL (ARRAY(SELECT l.tid FROM held AS l)))
    FOR UPDATE OF h SKIP LOCKED
),
final AS (
    DELETE FROM goqueue.job_history AS h USING found AS f
    WHERE h.id = f.id AND h.expires_on = f.expires_on
    RETURNING h.id, h.tenant, h.queue, h.key
),
gone AS (SELECT * FROM live UNION ALL SELECT * FROM final),
freed AS (
    DELETE FROM goqueue.job_key AS k USING gone AS g
    WHERE g.key IS NOT NULL AND k.tenant = g.tenant AND k.queue = g.queue AND k.key = g.key AND k.job_id = g.id
)
SELECT id::text, 'changed' FROM gone
