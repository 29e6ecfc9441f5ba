"""The setting ``GOQUEUE`` of a Django project, and what it leaves to defaults.

``APP``: the application, ``"module:name"``. ``URL``: where to connect; default: GOQUEUE_URL or the configuration file,
else the database ``DATABASE`` (default ``"default"``) of DATABASES.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

from django.conf import settings
from django.db import connections

from goqueue.cli.loading import import_app
from goqueue.configuration import configuration
from goqueue.model.errors import InvalidSetting, NotConfigured

if TYPE_CHECKING:
    from collections.abc import Mapping

    from goqueue.tasks.app import GoQueue

KEYS: Final = ("APP", "DATABASE", "URL")


def read() -> dict[str, str]:
    """Return the setting. Raises `InvalidSetting` for a key that there is not, or a value that is no text."""
    found = getattr(settings, "GOQUEUE", {})
    if not isinstance(found, dict):
        raise InvalidSetting('GOQUEUE in the Django settings must be a dict: GOQUEUE = {"APP": "shop.jobs:app"}')
    for key, value in found.items():
        if key not in KEYS:
            near = get_close_matches(str(key).upper(), KEYS, n=1)
            hint = f"do you mean {near[0]!r}?" if near else f"there are: {', '.join(KEYS)}"
            raise InvalidSetting(f"GOQUEUE in the Django settings: no key {key!r}; {hint}")
        if value is not None and not isinstance(value, str):
            raise InvalidSetting(f"GOQUEUE in the Django settings: {key} must be a str, is {type(value).__name__}")
    return {key: value for key, value in found.items() if value}


def app_name() -> str:
    """Return ``module:name`` of the application. Raises `NotConfigured`."""
    found = read().get("APP") or configuration().app
    if not found:
        raise NotConfigured('which application? Set GOQUEUE = {"APP": "shop.jobs:app"} in the Django settings')
    return found


def app() -> GoQueue:
    """Import the application."""
    return import_app(app_name())


def url() -> str:
    """Return where to connect. Raises `NotConfigured` if the database of DATABASES is not PostgreSQL."""
    given = read()
    return given.get("URL") or configuration().url or database_url(given.get("DATABASE", "default"))


def database_url(alias: str) -> str:
    """Return the URL of a database of DATABASES, as it is now: during Django's tests, that of the test database."""
    if alias not in connections.settings:
        raise InvalidSetting(f"GOQUEUE in the Django settings: DATABASES has no {alias!r}")
    connection = connections[alias]
    if connection.vendor != "postgresql":
        raise NotConfigured(
            f"DATABASES[{alias!r}] is {connection.vendor}, not PostgreSQL: set GOQUEUE_URL, or "
            'GOQUEUE = {"URL": "postgresql://…"} in the Django settings'
        )
    return _url(connection.settings_dict)


def _url(given: Mapping[str, Any]) -> str:  # Any: as Django has it
    """Write as a URL what Django would give to libpq."""
    from psycopg.pq import Conninfo

    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    options = {name: str(value) for name, value in (given.get("OPTIONS") or {}).items() if name in known}
    host, port = str(given.get("HOST") or ""), str(given.get("PORT") or "")
    if host.startswith("/"):  # the folder of a socket
        options["host"], host = host, ""
    if port and not host:
        options["port"], port = port, ""
    login = quote(str(given.get("USER") or ""), safe="")
    if given.get("PASSWORD"):
        login += ":" + quote(str(given["PASSWORD"]), safe="")
    place = f"[{host}]" if ":" in host else quote(host, safe=",")
    where = f"{login}@{place}" if login else place
    query = f"?{urlencode(options, quote_via=quote)}" if options else ""
    return f"postgresql://{where}{f':{port}' if port else ''}/{quote(str(given.get('NAME') or ''), safe='')}{query}"
