"""What `migrate` leaves behind in development: published drafts of the legal documents."""

from typing import Any

from django.conf import settings
from django.db import connections

from legal import documents
from plyrum import clock

TABLES = frozenset({"legal_legaldocument", "legal_documentversion", "auditlog_auditevent"})


def publish_after_migrate(using: str, **_: Any) -> None:
    """Publish what is missing, unless in production or without tables (a partial migration)."""
    if settings.IS_PRODUCTION or not set(connections[using].introspection.table_names()) >= TABLES:
        return
    documents.publish_drafts(now=clock.now())
