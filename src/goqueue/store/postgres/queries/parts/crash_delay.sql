-- How long job j waits after its crash: $1 seconds, doubled with each crash before, at most ten years.
make_interval(secs => least($1::float8 * power(2, least(j.crashes, 30)), 316224000))
