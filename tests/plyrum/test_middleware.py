"""Whose address is believed behind 0, 1 or 2 proxies, and which request ids are taken over."""

from collections.abc import Awaitable
from io import BytesIO
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import iscoroutinefunction
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, RequestFactory
from pytest_django import Settings

from plyrum.lean import Exchange
from plyrum.middleware import RequestFacts, client_ip, is_secure, request_id, require_https


@pytest.mark.parametrize(
    ("proxies", "socket", "forwarded", "address"),
    [
        (0, "203.0.113.7", "", "203.0.113.7"),
        (0, "203.0.113.7", "198.51.100.1", "203.0.113.7"),  # anybody may write the header
        (0, "::ffff:203.0.113.7", "", "203.0.113.7"),
        (0, "2001:DB8:0::1", "", "2001:db8::1"),
        (0, "", "", ""),
        (0, "testclient", "", ""),
        (1, "10.0.0.1", "", ""),
        (1, "10.0.0.1", "203.0.113.7", "203.0.113.7"),
        (1, "10.0.0.1", "1.1.1.1, 203.0.113.7", "203.0.113.7"),  # the left side is a claim
        (1, "10.0.0.1", "1.1.1.1,,  203.0.113.7 ,", "203.0.113.7"),
        (1, "10.0.0.1", "2001:db8::7", "2001:db8::7"),
        (1, "10.0.0.1", "::ffff:203.0.113.7", "203.0.113.7"),
        (1, "10.0.0.1", "203.0.113.7:5001", ""),
        (1, "10.0.0.1", "[2001:db8::7]", ""),
        (1, "10.0.0.1", "unknown", ""),
        (1, "10.0.0.1", "0x7f.1", ""),
        (1, "10.0.0.1", "' OR 1=1 --", ""),
        (2, "10.0.0.1", "203.0.113.7", ""),  # one proxy was walked around
        (2, "10.0.0.1", "203.0.113.7, 10.0.0.2", "203.0.113.7"),
        (2, "10.0.0.1", "1.1.1.1, 203.0.113.7, 10.0.0.2", "203.0.113.7"),
        (2, "10.0.0.1", "nonsense, 10.0.0.2", ""),
    ],
)
def test_address_is_counted_from_the_right(
    settings: Settings, proxies: int, socket: str, forwarded: str, address: str
) -> None:
    settings.PLYRUM_TRUSTED_PROXY_COUNT = proxies

    assert client_ip(socket, forwarded) == address


@pytest.mark.parametrize("proxies", [1, 2])
def test_hundred_claims_do_not_hide_the_address(settings: Settings, proxies: int) -> None:
    settings.PLYRUM_TRUSTED_PROXY_COUNT = proxies
    entries = [f"192.0.2.{number}" for number in range(100)]

    assert client_ip("10.0.0.1", ", ".join(entries)) == f"192.0.2.{100 - proxies}"


@pytest.mark.parametrize(
    "given", ["a1b2c3d4", "req_2026-11-20.7", "A" * 128, "018f0000-0000-7000-8000-000000000000"]
)
def test_sane_request_id_is_taken_over(given: str) -> None:
    assert request_id(given) == given


@pytest.mark.parametrize(
    "given",
    ["", "short", "A" * 129, "with space", "two\nlines12", "запрос-номер-1", "a/b/c/d/e", "{12345678}"],
)
def test_other_request_id_is_replaced(given: str) -> None:
    made = request_id(given)

    assert UUID(made).version == 7


def test_every_answer_carries_its_request_id(client: Client) -> None:
    given = client.get("/api/health", headers={"X-Request-Id": "given-by-caller"})
    made = client.get("/nowhere-at-all")

    assert given.headers["X-Request-Id"] == "given-by-caller"
    assert UUID(made.headers["X-Request-Id"]).version == 7


async def test_asynchronous_answer_carries_it_too(async_client: AsyncClient) -> None:
    answer = await async_client.get("/nowhere-at-all", headers={"X-Request-Id": "given-by-caller"})

    assert answer.headers["X-Request-Id"] == "given-by-caller"


async def test_middleware_speaks_the_way_of_what_stands_behind_it() -> None:
    async def behind(request: HttpRequest) -> HttpResponse:
        return HttpResponse(request.client_ip)  # type: ignore[attr-defined]

    facts = RequestFacts(behind)
    answer = facts(RequestFactory(REMOTE_ADDR="192.0.2.9").get("/"))

    assert iscoroutinefunction(facts)
    assert isinstance(answer, Awaitable)
    response = await answer
    assert isinstance(response, HttpResponse)
    assert response.content == b"192.0.2.9"


@pytest.fixture
def https_only(settings: Settings) -> None:
    """As in production behind a proxy."""
    settings.SECURE_SSL_REDIRECT = True
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")


@pytest.mark.usefixtures("https_only")
@pytest.mark.parametrize("method", ["get", "post", "options"])
@pytest.mark.parametrize(
    "path", ["/api/balance", "/api/audit", "/api/nowhere", "/api/openapi.json", "/v1/models"]
)
def test_call_of_the_api_over_plain_http_is_refused(client: Client, method: str, path: str) -> None:
    answer = getattr(client, method)(path, headers={"Authorization": "Bearer x"})

    assert (answer.status_code, answer["Content-Type"]) == (400, "application/problem+json")
    assert answer.json()["code"] == "https_required"
    assert answer.json()["request_id"] == answer["X-Request-Id"]
    assert "Location" not in answer
    served = getattr(client, method)(path, headers={"X-Forwarded-Proto": "https"})
    assert served.status_code != 400


@pytest.mark.usefixtures("https_only")
def test_probes_are_answered_and_pages_redirected(client: Client) -> None:
    assert client.get("/api/health").status_code == 200
    assert client.get("/api/ready").status_code in (200, 503)
    page = client.get("/login")
    assert (page.status_code, page["Location"]) == (301, "https://testserver/login")


@pytest.mark.usefixtures("https_only")
async def test_asynchronous_call_over_plain_http_is_refused_too(async_client: AsyncClient) -> None:
    answer = await async_client.get("/api/balance")

    assert (answer.status_code, answer.json()["code"]) == (400, "https_required")


def test_plain_http_is_served_where_pages_are(client: Client) -> None:
    assert client.get("/api/openapi.json").status_code == 200
    require_https("/api/balance", is_secure=False)


@pytest.mark.parametrize("is_believed", [True, False])
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "lines",
    [
        [], ["https"], ["http"], [" https "], ["https, http"], ["http, https"], ["https", "http"],
        ["http", "https"], [""], ["HTTPS"], ["httpsx"],
    ],
)  # fmt: skip
def test_scheme_is_the_one_that_django_finds(
    settings: Settings, lines: list[str], scheme: str, is_believed: bool
) -> None:
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if is_believed else None
    headers = [(b"x-forwarded-proto", line.encode()) for line in lines]
    scope = {"type": "http", "method": "GET", "path": "/", "scheme": scheme, "headers": headers}
    exchange = Exchange({**scope, "query_string": b""}, _never, _never, {})

    assert exchange.is_secure == ASGIRequest({**scope, "query_string": b""}, BytesIO()).is_secure()
    assert is_secure(scheme, ",".join(lines) if lines else None) == exchange.is_secure


async def _never(*_: object) -> Any:
    raise AssertionError("nothing is read or sent")
