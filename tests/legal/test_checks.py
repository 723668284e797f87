from typing import Any

import pytest
from pytest_django import Settings

from legal import checks, documents
from legal.models import DocumentVersion
from tests.legal.test_texts import SELLER


def ids(messages: list[Any]) -> list[str]:
    return [str(message.id) for message in messages]


def test_every_missing_seller_fact_names_its_variable(settings: Settings) -> None:
    settings.SELLER = dict.fromkeys(SELLER, "")

    found = checks.seller_is_named()

    assert ids(found) == ["legal.W001"] * 6
    assert found[0].hint == "Set PLYRUM_SELLER_LEGAL_NAME."


def test_named_seller_is_silent(settings: Settings) -> None:
    settings.SELLER = SELLER

    assert checks.seller_is_named() == []


def test_rows_are_only_read_when_a_database_is_named() -> None:
    assert checks.documents_are_in_force() == []


def test_published_drafts_block_the_launch() -> None:
    found = checks.documents_are_in_force(databases=["default"])

    assert sorted(ids(found)) == ["legal.E002"] * 4 + ["legal.E003"] * 4


def test_missing_document_blocks_the_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "REQUIRED_KINDS", ("cookie_policy",))

    found = checks.documents_are_in_force(databases=["default"])

    assert ids(found) == ["legal.E001"]
    assert "admin" in str(found[0].hint)


def test_text_that_does_not_match_its_hash_blocks_the_launch() -> None:
    version = DocumentVersion(text="<p>Текст.</p>", sha256="0" * 64, approval_ref="письмо 12")

    assert [check_id for check_id, _ in checks._faults("offer", version)] == ["legal.E004"]
