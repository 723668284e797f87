"""Paths of the legal pages; the frame hangs them at `legal/`."""

from django.urls import path

from legal import views

urlpatterns = [
    path("archive", views.archive, name="legal_archive"),
    path("<slug:kind>", views.document, name="legal_document"),
    path("<slug:kind>/<int:number>", views.version, name="legal_version"),
]
