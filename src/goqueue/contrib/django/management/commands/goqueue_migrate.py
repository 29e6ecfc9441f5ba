"""``manage.py goqueue_migrate``: bring GoQueue's schema to what this version needs."""

from __future__ import annotations

import asyncio
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from goqueue.contrib.django import conf
from goqueue.model.errors import GoQueueError
from goqueue.wiring import migrate


class Command(BaseCommand):
    """Migrates GoQueue's own schema, which Django's migrations know nothing of."""

    help = "Bring GoQueue's schema to what this version needs. Safe to run from many processes at once."
    requires_system_checks = ()

    def handle(self, **_: Any) -> None:  # Any: Django's own options
        """Migrate."""
        try:
            status = asyncio.run(migrate(conf.url()))
        except GoQueueError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"schema {status.current}")
