"""Paths of orchestration's pages; the frame hangs them at the root of the site."""

from django.urls import path

from orchestration import views

urlpatterns = [
    path("app/usage", views.usage, name="usage"),
    path("app/usage/export", views.export_usage, name="export_usage"),
]
