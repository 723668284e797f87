"""Shared by the tests of people: a client with an address of its own, so that throttles never meet."""

import ipaddress
import secrets
from typing import Any, Protocol

import pytest
from django.test import Client


class Post(Protocol):
    """Send JSON to the API from this test's own address."""

    def __call__(self, path: str, body: Any, **headers: str) -> Any: ...


@pytest.fixture
def address() -> str:
    return str(ipaddress.IPv6Address((0x20010DB8 << 96) | secrets.randbits(96)))


@pytest.fixture
def client(address: str) -> Client:
    return Client(REMOTE_ADDR=address)


@pytest.fixture
def post(client: Client) -> Post:
    def send(path: str, body: Any, **headers: str) -> Any:
        return client.post(path, body, content_type="application/json", headers=headers)

    return send
