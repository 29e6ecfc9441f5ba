"""The Django application."""

from __future__ import annotations

from django.apps import AppConfig


class GoQueueConfig(AppConfig):
    """GoQueue as a Django application: it has commands and checks, and no models."""

    name = "goqueue.contrib.django"
    label = "goqueue"
    verbose_name = "GoQueue"

    def ready(self) -> None:
        """Register the checks."""
        from goqueue.contrib.django import checks  # noqa: F401  it registers them
