"""What browsers are told and asked for: the token on every change, headers on every kind of answer."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.urls.converters import IntConverter, UUIDConverter

from accounts.models import User
from tests import factories, web
from tests.server_process import ServerProcess

# They change nothing but a cookie of the asking browser, or prove themselves by a token of their own.
OPEN_TO_FORMS = ("/theme", "/api/")
CHANGES = ("post", "put", "patch", "delete")


def addresses(found: list[URLPattern | URLResolver], prefix: str = "/") -> Iterator[str]:
    """An address for every pattern of the site; the objects they name exist nowhere."""
    for entry in found:
        path = prefix + _filled(entry)
        if isinstance(entry, URLResolver):
            yield from addresses(entry.url_patterns, path)
        elif "(" not in path:  # patterns of regular expressions are Django admin's own
            yield path


def _filled(entry: URLPattern | URLResolver) -> str:
    pattern = str(entry.pattern)
    for name, converter in entry.pattern.converters.items():
        value = (
            str(uuid4())
            if isinstance(converter, UUIDConverter)
            else "1"
            if isinstance(converter, IntConverter)
            else "x"
        )
        kinds = (f"<{kind}:{name}>" for kind in ("uuid", "int", "slug", "str", "path"))
        for written in (*kinds, f"<{name}>"):
            pattern = pattern.replace(written, value)
    return pattern


SITE = sorted({path for path in addresses(get_resolver().url_patterns) if not path.startswith("/api/")})


def signed_in(user: User) -> Client:
    """A browser of `user` that Django checks as strictly as a real one."""
    client = Client(enforce_csrf_checks=True)
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    client.cookies[settings.SESSION_COOKIE_NAME] = session.session_key or ""
    return client


def rows_of(people: list[User]) -> dict[str, int]:
    """How many rows belong to these people, table by table; other processes may be at work for others."""
    ids = [person.pk for person in people]
    return {
        f"{model.__name__}.{field.attname}": model._default_manager.filter(
            **{f"{field.attname}__in": ids}
        ).count()
        for model in apps.get_models()
        for field in model._meta.concrete_fields
        if field.attname in ("customer_id", "user_id")
    }


def test_site_has_addresses_to_walk() -> None:
    assert len(SITE) > 60
    assert {"/signup", "/app/topup", "/app/chat", "/admin/login/", "/en/" if "/en/" in SITE else "/"} <= set(
        SITE
    )


def test_every_change_without_the_token_is_refused() -> None:
    clients = [signed_in(factories.customer()), signed_in(factories.operator())]

    taken = [
        f"{method} {path}: {answer.status_code}"
        for client in clients
        for path in SITE
        if not path.startswith(OPEN_TO_FORMS)
        for method in CHANGES
        if (answer := getattr(client, method)(path, {"walk": "1"})).status_code != 403
    ]

    assert taken == []


def test_looking_changes_nothing() -> None:
    people = [factories.customer(), factories.operator()]
    clients = [Client(), *map(signed_in, people)]
    leaving = ("/logout", "/admin/logout/")  # a page that asks, and one that only takes a POST
    before = rows_of(people)

    faults = [
        f"{path}: {answer.status_code}"
        for client in clients
        for path in SITE
        if path not in leaving and "/chat/runs/" not in path
        if (answer := client.get(path)).status_code >= 500
    ]

    assert faults == []
    assert rows_of(people) == before


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200), ("/login", 200), ("/app", 302), ("/admin/", 302),
        ("/admin/login/?next=/admin/", 200), ("/api/models", 200),
        ("/api/balance", 401), ("/api/nothing", 404), ("/api/health", 200), ("/static/plyrum/js/app.js", 200),
        ("/api/runs/x/frames", 401),
    ],
)  # fmt: skip
def test_every_kind_of_answer_carries_the_headers(server: ServerProcess, path: str, status: int) -> None:
    answer = web.get(f"{server.url}{path}")

    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-request-id"]
    assert "server" not in answer.headers
    if answer.headers.get("content-type", "").startswith("text/html"):
        policy = answer.headers["content-security-policy"]
        for rule in ("default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"):
            assert rule in policy
        assert ("unsafe" in policy) == path.startswith("/admin")  # what Unfold needs, and nobody else
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
