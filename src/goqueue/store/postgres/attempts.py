"""Why a connection could not be made: what the last attempt said, in words that say what to do, and without passwords.

The pool tells those who wait only that they have waited too long. What the attempts themselves met is noted here.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from goqueue.model.errors import (
    DatabaseMissing,
    InvalidUrl,
    LoginRefused,
    PermissionDenied,
    StoreUnavailable,
)
from goqueue.store.postgres.errors import is_statement_pooling, translate

if TYPE_CHECKING:
    from goqueue.model.errors import GoQueueError

TEXT_CHARS_MAX: Final = 600
_LOGIN: Final = "set user and password in the URL as PostgreSQL knows them (`goqueue config url` says what is used)"
_REFUSED: Final = (
    # libpq hands on no SQLSTATE of a refused connection, only the server's words; those in other languages than English
    # are told as they are, and taken for trouble that may pass.
    (r"password authentication failed|no password supplied|(peer|ident) authentication failed", _LOGIN, LoginRefused),
    (
        r"role \"[^\"]*\" (does not exist|is not permitted to log in)|no such user",
        f"{_LOGIN}, or make the role",
        LoginRefused,
    ),
    (
        r"database \"[^\"]*\" does not exist|no such database",
        "make it (CREATE DATABASE), or correct its name in the URL",
        DatabaseMissing,
    ),
    (
        r"no pg_hba\.conf entry|pg_hba\.conf rejects",
        "let pg_hba.conf admit this host and user, or set sslmode in the URL",
        LoginRefused,
    ),
    (r"server does not support SSL", "take sslmode out of the URL, or turn ssl on at the server", LoginRefused),
)
"""Refusals that waiting does not change (28P01, 28000, 3D000), and what to do."""
_NO_CONNECT: Final = "permission denied for database"
_MANY: Final = "Multiple connection attempts failed. All failures were:"
_PREFIX: Final = re.compile(r"^connection failed: (connection to server (at|on) .*? failed: )?(FATAL:\s+)?", re.DOTALL)
_HINT: Final = re.compile(r"^\s*Is the server running .*$", re.MULTILINE)


class Attempts:
    """What became of the attempts of one database object to connect."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._ever = False
        self._failed: BaseException | None = None
        self._failed_s = 0.0

    def check(self) -> None:
        """Raise `ConfigurationError` for a URL with which no attempt can be made.

        The pool would make some, again and again, and log what the driver says: it quotes parts of a password.
        """
        values = _parsed(self._url)
        if isinstance(values, psycopg.ProgrammingError):
            raise _unreadable(values)
        if not _has_ports(values):
            raise _unreadable(None)

    def made(self) -> None:
        """Note a connection that was made."""
        self._ever = True
        self._failed = None

    def missed(self, error: BaseException) -> None:
        """Note an attempt that has failed."""
        self._failed, self._failed_s = error, time.monotonic()

    def failure(self, within_s: float) -> BaseException | None:
        """Return what the last attempt raised, if it failed, and not longer ago than ``within_s``."""
        return self._failed if time.monotonic() - self._failed_s <= within_s else None

    def explain(self, error: BaseException) -> GoQueueError:
        """Return the error to raise for an attempt that has failed.

        Before the first connection a wrong password, role or database is `ConfigurationError`, a missing right
        `PermissionDenied`. Later all are `StoreUnavailable`: what has worked may work again, and nothing is given up.
        """
        values = _values(self._url)
        if values is None:
            return _unreadable(error)
        if not isinstance(error, psycopg.OperationalError) or is_statement_pooling(error):
            return translate(error)
        text = str(error)
        if "unsupported startup parameter" in text:
            return translate(error)
        where, reason = _where(values), _told(text)
        for pattern, do, kind in _REFUSED:
            if re.search(pattern, text, re.IGNORECASE):
                told = f"PostgreSQL at {where} refused the connection: {reason}: {do}"
                return StoreUnavailable(told) if self._ever else kind(told)
        if _NO_CONNECT in text and not self._ever:
            return PermissionDenied(
                f"PostgreSQL at {where} refused the connection: {reason}: GRANT CONNECT ON DATABASE to the role"
            )
        return StoreUnavailable(f"PostgreSQL at {where} did not answer: {reason}")


def _told(text: str) -> str:
    """Say in one line what the driver says in many."""
    lines = _HINT.sub("", text).replace(_MANY, "").split("\n- ")
    parts = [" ".join(_PREFIX.sub("", line.strip()).split()) for line in lines]
    return "; ".join(part for part in parts if part)[:TEXT_CHARS_MAX]


def _before_values(text: str) -> str:
    """Leave out what a driver's error quotes: it may be a password."""
    return text.split('"', 1)[0].strip().rstrip(":")


def _unreadable(error: BaseException | None) -> InvalidUrl:
    detail = _before_values(str(error)) if isinstance(error, psycopg.ProgrammingError) else "host, port"
    return InvalidUrl(
        f"the URL of the database cannot be read ({detail} …): "
        "write postgresql://user:password@host:port/database, with %XX for special characters"
    )


def _parsed(url: str) -> dict[str, str] | psycopg.ProgrammingError:
    """Read a URL as the driver does, environment included, or return why that cannot be done."""
    values = {option.keyword.decode(): (option.val or b"").decode() for option in psycopg.pq.Conninfo.get_defaults()}
    try:
        return values | {name: str(value) for name, value in conninfo_to_dict(url).items()}
    except psycopg.ProgrammingError as error:
        return error


def _has_ports(values: dict[str, str]) -> bool:
    return all(port.strip().isdigit() or not port.strip() for port in values.get("port", "").split(","))


def _values(url: str) -> dict[str, str] | None:
    """Read a URL. None if it cannot be meant so.

    Of a password that should have been quoted, parts are taken for a port or a database: they must not be shown.
    """
    values = _parsed(url)
    if isinstance(values, psycopg.ProgrammingError) or "@" in values.get("dbname", "") or not _has_ports(values):
        return None
    return values


def _where(values: dict[str, str]) -> str:
    """Name hosts, ports and database, never the password."""
    hosts = (values.get("host") or values.get("hostaddr") or "").split(",")
    ports = (values.get("port") or "5432").split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    places = ",".join(f"{host or 'the local socket'}:{port or 5432}" for host, port in zip(hosts, ports, strict=False))
    return f"{places}/{values['dbname']}" if values.get("dbname") else places
