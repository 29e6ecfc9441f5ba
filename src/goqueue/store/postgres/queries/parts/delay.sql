-- How long a job waits before its next attempt: as its outcome says, after a crash as the store says.
CASE WHEN h.crashed = 0 THEN make_interval(secs => h.delay_s) ELSE true /*crash_delay*/ END
