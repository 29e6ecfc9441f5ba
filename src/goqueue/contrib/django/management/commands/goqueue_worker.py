"""``manage.py goqueue_worker``: `goqueue worker` for the project's application."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from goqueue.cli.options import LogFormat
from goqueue.cli.working import run_worker
from goqueue.contrib.django import conf
from goqueue.model.errors import GoQueueError
from goqueue.wiring import _Doors

if TYPE_CHECKING:
    from django.core.management.base import CommandParser

APP = "goqueue.contrib.django.worker:app"


class Command(BaseCommand):
    """Runs the project's jobs."""

    help = "Run the project's jobs until told to stop. Worker processes set Django up; this one only supervises them."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the options of `goqueue worker`."""
        parser.add_argument(
            "--queues", metavar="mail=50,default", help="Queues in order; NAME=N: N slots, and processes, of its own."
        )
        parser.add_argument("--concurrency", type=int, metavar="N", help="Jobs at the same time in one process.")
        parser.add_argument("--processes", type=int, metavar="N", help="Worker processes.")
        parser.add_argument("--recycle-jobs", type=int, metavar="N", help="Replace a process after N jobs.")
        parser.add_argument("--url", help="Where to connect, instead of what the settings say.")
        parser.add_argument("--log-format", choices=[str(name) for name in LogFormat], default="text")
        parser.add_argument("--reload", action="store_true", help="Start the workers anew when a file changes.")

    def handle(self, **given: Any) -> None:  # Any: the options, whose names are above
        """Run."""
        try:
            folder = Path(getattr(settings, "BASE_DIR", Path.cwd())) if given["reload"] else None
            if folder is None:
                conf.app()  # what cannot be imported is said here once, and not by each process
            run_worker(
                _Doors(),
                app=APP,
                queues=given["queues"],
                concurrency=given["concurrency"],
                processes=given["processes"],
                recycle_jobs=given["recycle_jobs"],
                url=given["url"] or conf.url(),
                log_format=LogFormat(given["log_format"]),
                reload=folder,
            )
        except GoQueueError as error:
            raise CommandError(str(error)) from error
