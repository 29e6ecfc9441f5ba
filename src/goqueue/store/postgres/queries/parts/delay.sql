-- How long a job waits before its next attempt: as its outcome says, after a crash as the store says ($1 seconds).
CASE WHEN h.crashed = 0 THEN make_interval(secs => h.delay_s) ELSE true /*crash_delay $1*/ END
