"""What may be shown of an address: all but its secrets."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

HIDDEN: Final = "…"

_SECRETS: Final = ("password", "secret")
"""How the names of secret parameters end: ``password``, ``sslpassword``, ``oauth_client_secret``."""
# libpq ends the user part at the first "/". A password with an unescaped "/" is a mistake, and no less a secret.
_USERINFO: Final = re.compile(r"^(\s*[a-z][a-z0-9+.-]*://[^/@:]*:)(?:[^?]*|[^/]*)@", re.IGNORECASE)
_KEYWORD: Final = re.compile(r"(\w*(?:password|secret)\s*=\s*)(?:'(?:[^'\\]|\\.)*(?:'|$)|\S+)", re.IGNORECASE)


def masked(text: str) -> str:
    """Return an address (a URL, or ``name=value`` pairs as libpq takes them) without its passwords."""
    if "://" not in text:
        return _KEYWORD.sub(rf"\g<1>{HIDDEN}", text)
    place, mark, query = _USERINFO.sub(rf"\g<1>{HIDDEN}@", text).partition("?")
    return place + mark + "&".join(_parameter(pair) for pair in query.split("&"))


def _parameter(pair: str) -> str:
    name, equals, value = pair.partition("=")
    # Names may be percent-encoded too.
    secret = unquote(name).strip().casefold().endswith(_SECRETS)
    return f"{name}={HIDDEN}" if equals and value and secret else pair
