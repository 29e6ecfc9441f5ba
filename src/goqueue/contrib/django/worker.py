"""The project's application as workers run it: ``goqueue.contrib.django.worker:app``.

Importing this sets Django up, in every process that a worker starts, before the project's own modules are imported.
(`goqueue worker goqueue.contrib.django.worker:app` works too, with DJANGO_SETTINGS_MODULE in the environment.)
"""

from __future__ import annotations

import django
from django.apps import apps

from goqueue.tasks.app import GoQueue

if not apps.ready:
    django.setup()

from goqueue.contrib.django import conf
from goqueue.contrib.django.middleware import CloseConnections

__all__ = ["app"]


def around(project: GoQueue) -> GoQueue:
    """Return the project's application with `CloseConnections` around all that it has itself."""
    layers = project.middleware
    if not any(isinstance(layer, CloseConnections) for layer in layers):
        layers = (CloseConnections(), *layers)
    made = GoQueue(name=project.name, retry=project.retry, lifespan=project.lifespan, middleware=layers)
    made.include(project)
    return made


app = around(conf.app())
