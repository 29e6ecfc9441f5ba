"""The command line. Importing this package loads nothing; each command imports what it needs."""

from __future__ import annotations


def main() -> None:
    """Entry point of the `goqueue` script."""
    from goqueue.cli.main import main as run

    run()
