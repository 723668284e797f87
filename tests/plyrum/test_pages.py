"""Pages that belong to no app: the choice of theme, and errors as a page or as a problem document."""

import pytest
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.test import Client, RequestFactory

from plyrum import pages

HANDLERS = {
    400: lambda request: pages.bad_request(request, ValueError("secret")),
    403: lambda request: pages.forbidden(request, PermissionDenied("secret")),
    404: lambda request: pages.not_found(request, ValueError("secret")),
    500: pages.server_error,
}


@pytest.mark.parametrize("theme", ["auto", "light", "dark"])
def test_theme_is_kept_and_the_page_comes_back(client: Client, theme: str) -> None:
    answer = client.post("/theme", {"theme": theme, "next": "/legal/offer"})

    assert (answer.status_code, answer.headers["Location"]) == (302, "/legal/offer")
    assert answer.cookies["theme"].value == theme
    assert answer.cookies["theme"]["samesite"] == "Lax"
    assert f'data-theme="{theme}"' in client.get("/").content.decode() or theme == "auto"


@pytest.mark.parametrize(
    "next_", ["https://evil.example.com/", "//evil.example.com", "javascript:alert(1)", "\\\\evil"]
)
def test_theme_never_leads_away(client: Client, next_: str) -> None:
    assert client.post("/theme", {"theme": "dark", "next": next_}).headers["Location"] == "/"


def test_unknown_theme_is_passed_over(client: Client) -> None:
    answer = client.post("/theme", {"theme": "pink"})

    assert answer.status_code == 302
    assert "theme" not in answer.cookies


def test_theme_is_chosen_by_a_form_only(client: Client) -> None:
    assert client.get("/theme").status_code == 405


@pytest.mark.parametrize("status", HANDLERS)
@pytest.mark.parametrize("path", ["/app/chat", "/api/x", "/v1/x"])
def test_failure_speaks_to_whoever_asked(status: int, path: str) -> None:
    request = RequestFactory().get(path)
    request.request_id = "r-1"  # type: ignore[attr-defined]

    answer: HttpResponse = HANDLERS[status](request)

    kind = "text/html" if path.startswith("/app") else "application/problem+json"
    assert answer.status_code == status
    assert answer.headers["Content-Type"].startswith(kind)
    assert "secret" not in answer.content.decode()


def test_unknown_page_is_a_page(client: Client) -> None:
    answer = client.get("/nowhere")

    assert (answer.status_code, answer.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
