"""When an error itself says when to come back: ``Retry-After`` (RFC 9110, section 10.2.3).

Read from the attribute ``retry_after_s`` of an exception, or from the headers of an HTTP answer that it carries: in
``error.response.headers`` (httpx, requests and the SDKs on top of them) or ``error.headers`` (aiohttp, urllib). Nothing
here raises, whatever an error looks like: rubbish is as good as nothing.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from itertools import islice
from typing import Final

from goqueue.model import limits

HEADERS_MAX: Final = 256
VALUE_CHARS_MAX: Final = 64
_SECONDS: Final = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,12})?", re.ASCII)


def asked_for_s(error: BaseException, now: datetime | None = None) -> float | None:
    """Return the seconds for which ``error`` asks to be left alone, at most `limits.DELAY_S_MAX`; None if it does not.

    A date counts from the answer's own ``Date``, by the clock of who wrote both; without one from ``now`` (default: the
    present).
    """
    try:
        own = _seconds(getattr(error, "retry_after_s", None))
        if own is not None:
            return own
        for carrier in (getattr(error, "response", None), error):
            found = _from_headers(getattr(carrier, "headers", None), now)
            if found is not None:
                return found
    except Exception:  # a property of a foreign object may raise anything
        return None
    return None


def _from_headers(headers: object, now: datetime | None) -> float | None:
    items = getattr(headers, "items", None)
    if items is None:
        return None
    wanted: dict[str, str] = {}
    for name, value in islice(items(), HEADERS_MAX):
        key = _text(name).lower()
        if key in {"retry-after", "date"}:
            wanted.setdefault(key, _text(value).strip())
    asked = wanted.get("retry-after")
    if asked is None or len(asked) > VALUE_CHARS_MAX:
        return None
    if _SECONDS.fullmatch(asked):
        return _seconds(float(asked))
    until = _date(asked)
    if until is None:
        return None
    since = _date(wanted.get("date", "")) or now or datetime.now(UTC)
    return _seconds(max(0.0, (until - since).total_seconds()))


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value) or value < 0:
        return None
    return float(min(value, limits.DELAY_S_MAX))


def _date(text: str) -> datetime | None:
    if not text or len(text) > VALUE_CHARS_MAX:
        return None
    from email.utils import parsedate_to_datetime  # rarely needed, and large

    try:
        parsed = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, str) else ""
