import pytest
import time_machine
from django.test import Client

from legal import documents
from plyrum import clock
from tests.legal.conftest import MakeVersion


@pytest.mark.parametrize("kind", documents.REQUIRED_KINDS)
@pytest.mark.parametrize("prefix", ["", "/en"])
def test_document_in_force_is_open_to_everybody(client: Client, kind: str, prefix: str) -> None:
    answer = client.get(f"{prefix}/legal/{kind}")

    version = documents.current(kind, at=clock.now())
    page = answer.content.decode()
    assert answer.status_code == 200
    assert version.title in page
    assert version.sha256 in page
    assert answer.context["version"] == version.number
    assert answer.context["is_draft"] is True
    assert answer.context["is_in_force"] is True


def test_earlier_version_stays_readable_by_number(client: Client) -> None:
    answer = client.get("/legal/offer/1")

    assert answer.status_code == 200
    assert answer.context["version"] == 1


@pytest.mark.parametrize("path", ["/legal/nonsense", "/legal/offer/999", "/legal/nonsense/1", "/legal/Offer"])
def test_unknown_document_is_not_found(client: Client, path: str) -> None:
    assert client.get(path).status_code == 404


def test_draft_is_not_shown_to_the_public(client: Client, make_version: MakeVersion) -> None:
    make_version(500, status="draft")
    make_version(501, status="approved")

    assert client.get("/legal/refund_rules/500").status_code == 404
    assert client.get("/legal/refund_rules/501").status_code == 404


def test_archive_lists_versions_with_dates_and_hashes(client: Client, make_version: MakeVersion) -> None:
    old = make_version(502, status="superseded")
    draft = make_version(503, status="draft", text="<p>Ещё не готово.</p>")

    page = client.get("/legal/archive").content.decode()

    for kind in documents.REQUIRED_KINDS:
        assert documents.current(kind, at=clock.now()).sha256 in page
    assert old.sha256 in page
    assert draft.sha256 not in page


def test_before_anything_is_published_the_page_says_to_come_back(client: Client) -> None:
    with time_machine.travel("2001-01-01T00:00:00Z"):
        assert client.get("/legal/offer").status_code == 503
        assert client.get("/legal/offer/1").status_code == 404


def test_documents_are_only_read(client: Client) -> None:
    assert client.post("/legal/offer").status_code == 405
