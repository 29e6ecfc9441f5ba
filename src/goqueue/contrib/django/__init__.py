"""GoQueue in Django. Add ``"goqueue.contrib.django"`` to INSTALLED_APPS, and to the settings:

    GOQUEUE = {"APP": "shop.jobs:app"}  # the database is DATABASES["default"], unless "URL" or GOQUEUE_URL says other

Then ``manage.py goqueue_migrate`` once, and ``manage.py goqueue_worker`` as often as you like. To enqueue:

    from goqueue.contrib.django import client

    with transaction.atomic():
        order = Order.objects.create(...)
        client.enqueue(send_email.job(order.id), conn=connection)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from django.utils.functional import SimpleLazyObject

if TYPE_CHECKING:
    from goqueue.wiring import AsyncClient, Client

__all__ = ["async_client", "client"]


def _client() -> Client:
    from goqueue.contrib.django import conf
    from goqueue.wiring import Client

    return Client(conf.app(), conf.url())


def _async_client() -> AsyncClient:
    from goqueue.contrib.django import conf
    from goqueue.wiring import AsyncClient

    return AsyncClient(conf.app(), conf.url())


client = cast("Client", SimpleLazyObject(_client))
"""The client of this process: made at its first use, so that it can be imported anywhere. All threads share it; a
forked child opens connections of its own. In tests, call ``client.close()`` only for one that you have made yourself.
"""
async_client = cast("AsyncClient", SimpleLazyObject(_async_client))
"""The same for ``async def`` views under an ASGI server, which has one event loop. (Under WSGI each async view has a
loop of its own, and this client raises `WrongLoop` when two run at once: use
``sync_to_async(client.enqueue)`` there.)"""
