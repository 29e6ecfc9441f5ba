"""What the web sees."""

from __future__ import annotations

from django.core.exceptions import BadRequest
from django.db import connection, transaction
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from goqueue.contrib.django import async_client, client
from shop.jobs import confirm, count_orders
from shop.models import Order


@csrf_exempt
@require_POST
def order(request: HttpRequest) -> JsonResponse:
    """Store an order and its mail: both, or neither."""
    with transaction.atomic():
        made = Order.objects.create(email=request.POST["email"])
        job = client.enqueue(confirm.job(made.pk), conn=connection)
        if "@" not in made.email:
            raise BadRequest("that is no address")  # even this late: the transaction is rolled back with both
    return JsonResponse({"job": job.id}, status=201)


def state(_: HttpRequest, job_id: str) -> JsonResponse:
    """Say how far a job is."""
    return JsonResponse({"state": str(client.get(job_id).state())})


async def count(_: HttpRequest) -> JsonResponse:
    """Ask a worker, and wait for its answer, without keeping a thread busy: for ASGI servers."""
    job = await async_client.enqueue(count_orders.job())
    return JsonResponse({"orders": await job.result(timeout_s=30)})
