"""Clients of ordinary outside calls: limits on time, no proxies, no redirects."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from plyrum import outbound


class Outside(BaseHTTPRequestHandler):
    """Redirects /away, is silent at /slow, tells the Authorization header elsewhere."""

    def do_GET(self) -> None:
        if self.path == "/slow":
            self.server.silence.wait(5)  # type: ignore[attr-defined]
        body = self.headers.get("Authorization", "nobody").encode()
        self.send_response(302 if self.path == "/away" else 200)
        self.send_header("Location", "http://127.0.0.1:1/")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Outside)
    server.silence = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.silence.set()  # type: ignore[attr-defined]
    server.shutdown()
    thread.join()
    server.server_close()


def test_redirect_is_answered_not_followed(address: str) -> None:
    with outbound.client(base_url=address, read_timeout_seconds=2) as client:
        assert client.get("/away").status_code == 302


def test_silence_ends_after_the_given_time(address: str) -> None:
    with (
        outbound.client(base_url=address, read_timeout_seconds=0.2) as client,
        pytest.raises(httpx.ReadTimeout),
    ):
        client.get("/slow")


def test_proxies_of_the_environment_are_not_used(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")

    with outbound.client(base_url=address, read_timeout_seconds=2) as client:
        assert client.get("/").text == "nobody"


def test_credentials_are_sent_when_given(address: str) -> None:
    with outbound.client(base_url=address, read_timeout_seconds=2, auth=("shop", "word")) as client:
        assert client.get("/").text == "Basic c2hvcDp3b3Jk"


def test_connecting_has_a_limit_of_its_own() -> None:
    with outbound.client(base_url="http://127.0.0.1:1", read_timeout_seconds=30) as client:
        assert client.timeout.connect == 5.0
        with pytest.raises(httpx.ConnectError):
            client.get("/")
