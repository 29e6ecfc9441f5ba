-- How long a job waits after its crash: clock.crash_delay_s, doubled with each crash before, at most ten years.
make_interval(secs => least(clock.crash_delay_s * power(2, least(j.crashes, 30)), 316224000))
