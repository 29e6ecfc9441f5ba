"""What happens in the background. Workers have set Django up before they import this."""

from __future__ import annotations

from goqueue import GoQueue
from shop.models import Order

app = GoQueue()


@app.task(max_attempts=5)
def confirm(order_id: int) -> str:
    """Stands for a mail. A plain function runs in a thread, and uses the ORM as a view does."""
    order = Order.objects.get(pk=order_id)
    order.confirmed = True
    order.save(update_fields=["confirmed"])
    return f"order {order.pk} confirmed to {order.email}"


@app.task
async def count_orders() -> int:
    """An async one uses the ORM's async methods."""
    found: int = await Order.objects.acount()
    return found


@app.task(run_in="process")
def longest_address() -> int:
    """And one that keeps a CPU busy has a process of its own, with Django set up there too."""
    return max((len(order.email) for order in Order.objects.all()), default=0)
