"""Arguments of jobs as they are given on a command line, and the application that knows what fits."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from goqueue.tasks.app import GoQueue


def read(text: str) -> bytes:
    """Return the JSON that an option gives; ``-`` reads standard input."""
    return sys.stdin.buffer.read() if text == "-" else text.encode("utf-8", "surrogateescape")


def as_object(raw: bytes) -> dict[str, object]:
    """Decode arguments. Raises `InvalidJob` unless they are a JSON object that can be stored."""
    from goqueue.model import limits
    from goqueue.tasks import codec

    codec.check_json(raw, "/args", limits.ARGS_BYTES_MAX, must_be_object=True)
    value = codec.decode(raw)
    return {**value} if isinstance(value, dict) else {}


def application(name: str | None) -> GoQueue | None:
    """Import the application that is named here, or in the settings; None if none is."""
    from goqueue.cli import loading
    from goqueue.configuration import configuration

    wanted = name or configuration().app
    if not wanted:
        return None
    loading.add_working_folder()
    try:
        return loading.import_app(wanted)
    except loading.CannotImport as error:
        loading.show_cause(error)
        raise
