-- What becomes of jobs that have just become final. Needs clock and `gone`: the columns of a job as it ends, and ended (its
-- state), reason, result and expires_on (null: it is not kept). It moves to history, its key is free or held on.
kept AS (
    /*keep*/
    /*history_again*/
),
/*freed*/
