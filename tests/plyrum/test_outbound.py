"""Clients of ordinary outside calls: limits on time, no proxies, no redirects, no unknown certificates."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from plyrum import clock, outbound
from tests import web


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


@contextmanager
def served(secure: ssl.SSLContext | None = None) -> Iterator[int]:
    """The port of an outside that speaks TLS when it is told how."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Outside)
    server.silence = threading.Event()  # type: ignore[attr-defined]
    if secure is not None:
        server.socket = secure.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.silence.set()  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served() as port:
        yield f"http://127.0.0.1:{port}"


def test_redirect_is_answered_not_followed(address: str) -> None:
    with outbound.client(base_url=address, read_timeout_seconds=20) as client:
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

    with outbound.client(base_url=address, read_timeout_seconds=20) as client:
        assert client.get("/").text == "nobody"


def test_credentials_are_sent_when_given(address: str) -> None:
    with outbound.client(base_url=address, read_timeout_seconds=20, auth=("shop", "word")) as client:
        assert client.get("/").text == "Basic c2hvcDp3b3Jk"


def test_connecting_has_a_limit_of_its_own() -> None:
    with outbound.client(base_url="http://127.0.0.1:1", read_timeout_seconds=30) as client:
        assert client.timeout.connect == 5.0
        with pytest.raises(httpx.ConnectError):
            client.get("/")


def test_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = clock.now()
    own = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "own.pem"
    kept = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pem.write_bytes(key.private_bytes(*kept) + own.public_bytes(serialization.Encoding.PEM))
    secure = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    secure.load_cert_chain(pem)
    with served(secure) as port:
        address = f"https://127.0.0.1:{port}"
        with (
            outbound.client(base_url=address, read_timeout_seconds=20) as client,
            pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"),
        ):
            client.get("/")
        assert web.get(address, verify=ssl.create_default_context(cafile=str(pem))).status_code == 200
