"""Bounds of everything that a caller can send. Beyond them a value is refused, never cut in silence."""

from __future__ import annotations

from datetime import UTC, datetime

ARGS_BYTES_MAX = 1024 * 1024
RESULT_BYTES_MAX = 64 * 1024
DEPTH_MAX = 64
"""Nesting of JSON values in arguments and results."""

NAME_CHARS_MAX = 128
"""Characters of a queue or tenant name."""
KIND_CHARS_MAX = 256
GROUP_KEY_CHARS_MAX = 256
UNIQUE_KEY_CHARS_MAX = 1024
TAGS_MAX = 16
TAG_CHARS_MAX = 128
META_KEYS_MAX = 32
META_KEY_CHARS_MAX = 128
META_VALUE_CHARS_MAX = 4096

PRIORITY_MIN, PRIORITY_MAX, PRIORITY_DEFAULT = 0, 9, 5
MAX_ATTEMPTS_MAX, MAX_ATTEMPTS_DEFAULT = 100_000, 20
MAX_CRASHES_MAX, MAX_CRASHES_DEFAULT = 1_000, 3
TIMEOUT_S_MIN, TIMEOUT_S_MAX = 0.001, 30 * 86_400.0
DELAY_S_MAX = 10 * 366 * 86_400.0
DEADLINE_S_MIN, DEADLINE_S_MAX = 0.001, 10 * 366 * 86_400.0
"""Of ``schedule_to_start_s`` and ``deadline_s``."""
RETRY_FACTOR_MAX = 100.0
RETRY_DELAYS_MAX = 100
"""Delays in the list of a retry policy."""
WINDOW_S_MAX = 10 * 366 * 86_400.0
INSTANT_MIN = datetime(2000, 1, 1, tzinfo=UTC)
INSTANT_MAX = datetime(2200, 1, 1, tzinfo=UTC)

ERRORS_KEPT_MAX = 20
ERROR_TYPE_CHARS_MAX = 256
ERROR_MESSAGE_CHARS_MAX = 4_096
ERROR_TRACEBACK_CHARS_MAX = 16_384
REASON_CHARS_MAX = 1_024
PROGRESS_BYTES_MAX = 4_096
LOGS_KEPT_MAX = 100
"""Newest lines that are kept of what a job's handlers log."""
LOG_MESSAGE_CHARS_MAX = 1_000
LOGS_SENT_MAX = 1_000
"""Lines in one beat, and in one statement that keeps them before a settle."""

WORKER_KEPT_S = 60.0
"""How long the row of a worker stays after its lease, far longer than a statement may take: a claim that began within
the lease may be committed later, and the sweep of orphans finds jobs by the rows of their workers."""

BATCH_MAX = 1_000
"""Jobs in one ``enqueue`` of the port, and items in one HTTP batch."""
PAGE_SIZE_MAX, PAGE_SIZE_DEFAULT = 500, 50
CLAIM_MAX = 500
"""Leases in one claim."""
SETTLE_MAX = 1_000
"""Outcomes in one settle."""
COUNT_EXACT_MAX = 10_000
"""A count is exact up to here and an estimate beyond."""
