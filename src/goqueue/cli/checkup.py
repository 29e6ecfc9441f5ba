"""What `goqueue doctor` finds: what the command line itself can see, and what the store says of itself."""

from __future__ import annotations

import platform
from collections import Counter
from typing import TYPE_CHECKING, Final

import msgspec

from goqueue.cli import report
from goqueue.cli.masking import masked
from goqueue.cli.options import Output
from goqueue.model.admin import Finding, Level
from goqueue.model.errors import GoQueueError, InvalidSetting, NotConfigured, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from goqueue.cli.doors import Doors
    from goqueue.model.admin import SchemaStatus
    from goqueue.store.port import Store

_ORDER: Final = {Level.ERROR: 0, Level.WARNING: 1, Level.OK: 2}


class Checkup(msgspec.Struct, frozen=True):
    """What was found, worst first."""

    findings: tuple[Finding, ...]
    stopped_by: GoQueueError | None = None
    """Why there was no looking any further."""


async def look(doors: Doors, url: str | None) -> Checkup:
    """Look at everything that can be seen. What cannot be reached is a finding, not an error."""
    findings = [_version()]
    try:
        where = doors.resolve(url)
        findings += _settings(where, url)
    except (InvalidSetting, NotConfigured) as e:
        findings.append(Finding(check="configuration", level=Level.ERROR, text=str(e)))
        return _checkup(findings, e)
    try:
        store = doors.store(where)
    except GoQueueError as e:
        findings.append(_failed("configuration", e))
        return _checkup(findings, e)
    try:
        found, stopped_by = await _look_at(store)
        return _checkup([*findings, *found], stopped_by)
    finally:
        await store.close()


async def _look_at(store: Store) -> tuple[list[Finding], GoQueueError | None]:
    try:
        status = await store.schema()  # one connection, and the reason if there is none
    except GoQueueError as e:
        return [_failed("connection", e)], e
    schema = _schema(status)
    try:
        found = await store.diagnose()
    except GoQueueError as e:
        # Without a schema that fits there may be nothing to look at: that is said already.
        return ([schema, _failed("diagnose", e)], e) if schema.level is Level.OK else ([schema], None)
    # A store that looks at its schema says more about it.
    return (found, None) if any(finding.check == "schema_version" for finding in found) else ([schema, *found], None)


def _version() -> Finding:
    from importlib.metadata import version

    text = f"goqueue {version('goqueue')}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    return Finding(check="version", level=Level.OK, text=text)


def _settings(where: str, url: str | None) -> list[Finding]:
    from goqueue.configuration import DEFAULT, configuration

    values = configuration().values
    sources = Counter(value.source for value in values if value.name != "url" and value.source != DEFAULT)
    given = "; ".join(
        f"{count} setting{'s' if count > 1 else ''} from {source}" for source, count in sorted(sources.items())
    )
    source = next(value.source for value in values if value.name == "url")
    if url is not None:
        source = "--url"
    elif source == DEFAULT:
        source = "a running `goqueue dev`"
    text = f"connects to {masked(where)} (from {source}); {given or 'every other setting is at its default'}"
    return [Finding(check="configuration", level=Level.OK, text=text)]


def _schema(status: SchemaStatus) -> Finding:
    if status.current == status.target:
        return Finding(
            check="schema_version", level=Level.OK, text=f"schema {status.current}, as this version needs it"
        )
    if status.current > status.target:
        return Finding(
            check="schema_version",
            level=Level.ERROR,
            text=f"the database has schema {status.current}, this version knows {status.target}: it refuses to work",
            do="upgrade goqueue here to the version that the other processes have",
        )
    have = f"schema {status.current}" if status.current else "no schema of GoQueue"
    return Finding(
        check="schema_version",
        level=Level.ERROR,
        text=f"the database has {have}, this version needs {status.target}",
        do="run `goqueue db migrate` (or apply `goqueue db sql`) as the owner of the schema",
    )


def _failed(check: str, error: GoQueueError) -> Finding:
    match error:
        case StoreUnavailable():
            do = "is the server up, and the host, port and password right? `goqueue config url` says what is used"
        case _:
            do = ""
    return Finding(check=check, level=Level.ERROR, text=str(error), do=do)


def _checkup(findings: Sequence[Finding], stopped_by: GoQueueError | None) -> Checkup:
    return Checkup(tuple(sorted(findings, key=lambda finding: _ORDER[finding.level])), stopped_by)


def exit_code(checkup: Checkup, *, strict: bool) -> int:
    """Return 0 if nothing is an error (with ``strict``: or a warning), else 1, or what stopped the looking."""
    if checkup.stopped_by is not None:
        return report.exit_code(checkup.stopped_by)
    bad = (Level.ERROR, Level.WARNING) if strict else (Level.ERROR,)
    return report.FAILED if any(finding.level in bad for finding in checkup.findings) else 0


def show(findings: Sequence[Finding], output: Output) -> None:
    """Write the findings: for people what to do is below what was seen, so that there is room for both."""
    from goqueue.cli.output import Column, show_rows

    if output is Output.TABLE:
        columns = [Column("level", whole=True), Column("check", whole=True), Column("what, and what to do", wrap=True)]
        rows: list[tuple[str, ...]] = [
            (str(found.level), found.check, f"{found.text}\n→ {found.do}" if found.do else found.text)
            for found in findings
        ]
    else:
        columns = [Column("check"), Column("level"), Column("text"), Column("do")]
        rows = [(found.check, str(found.level), found.text, found.do) for found in findings]
    show_rows(output, columns, rows, empty="nothing was found", records=list(findings))
