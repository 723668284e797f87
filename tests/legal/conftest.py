"""Legal texts for tests: documents in a language of their own, so that no test changes what others accept."""

import secrets
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from legal import texts
from legal.models import DocumentVersion, LegalDocument
from plyrum import clock

MakeVersion = Callable[..., DocumentVersion]


@pytest.fixture
def locale() -> str:
    """A language that only this test knows."""
    return f"x-{secrets.token_hex(4)}"


@pytest.fixture
def make_version(locale: str) -> MakeVersion:
    """Store a version of a document in this test's language, as it is."""

    def make(
        number: int = 1,
        *,
        kind: str = "refund_rules",
        status: str = "draft",
        text: str = "",
        effective_from: datetime | None = None,
        is_material_change: bool = True,
        notice_days: int = 0,
        drafted_by: str = "author",
        in_locale: str = locale,
    ) -> DocumentVersion:
        document, _ = LegalDocument.objects.get_or_create(kind=kind, locale=in_locale)
        html = texts.normalise(text or f"<p>Правила номер {number}.</p>")
        return DocumentVersion.objects.create(
            document=document,
            number=number,
            status=status,
            title="Правила",
            text=html,
            sha256=texts.digest(html),
            effective_from=effective_from or clock.now() - timedelta(days=100 - number),
            is_material_change=is_material_change,
            notice_days=notice_days,
            drafted_by=drafted_by,
            created_at=clock.now(),
        )

    return make
