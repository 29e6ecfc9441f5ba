-- settle: what became of outcomes that were not written. Asked with a fresh snapshot.
-- $1 ids  $2 fences  $3 earliest day on which any of them can expire
-- Rows: ordinal (from 1), then true for each of: decided by this fence before; still running under it (somebody has it locked).
-- A sweep raises the fence, so a job that waits under the same fence was sent back by this lease's own earlier write.
-- What runs under the fence is not decided by it, even if its id is history, too, under as high a fence (it was used twice).
-- Indexes: job_pkey, job_history_pkey.
SELECT
    o.nth::int4,
    EXISTS (SELECT FROM goqueue.job AS j WHERE j.id = o.id AND j.fence = o.fence AND j.state + 0 <> 1)
    OR NOT EXISTS (SELECT FROM goqueue.job AS r WHERE r.id = o.id AND r.fence = o.fence AND r.state + 0 = 1)
    AND EXISTS (SELECT FROM goqueue.job_history AS h WHERE h.id = o.id AND h.fence = o.fence AND h.expires_on >= $3::date),
    EXISTS (SELECT FROM goqueue.job AS j WHERE j.id = o.id AND j.fence = o.fence AND j.state + 0 = 1)
FROM unnest($1::uuid[], $2::int8[]) WITH ORDINALITY AS o(id, fence, nth)
