"""Where it sees it."""

from __future__ import annotations

from django.urls import path

from shop import views

urlpatterns = [
    path("orders", views.order),
    path("orders/count", views.count),
    path("jobs/<job_id>", views.state),
]
