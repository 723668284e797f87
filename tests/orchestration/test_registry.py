"""Keys in turn and at rest, names of variables, and the addresses that no key may be sent to."""

import time

import pytest
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from orchestration.providers import registry
from orchestration.providers.registry import KeyPool


@pytest.fixture
def strict(settings: Settings) -> None:
    settings.PLYRUM_ALLOW_LOCAL_PROVIDER_BASE_URLS = False


def test_keys_are_taken_in_turn() -> None:
    pool = KeyPool(("a", "b", "c"))

    taken = [key.secret for _ in range(7) if (key := pool.take(set())) is not None]

    assert taken == ["a", "b", "c", "a", "b", "c", "a"]


def test_key_tried_in_this_run_is_passed_over() -> None:
    pool = KeyPool(("a", "b"))
    used: set[str] = set()

    secrets = []
    while (key := pool.take(used)) is not None:
        used.add(key.fingerprint)
        secrets.append(key.secret)

    assert secrets == ["a", "b"]


def test_resting_key_is_passed_over_and_comes_back() -> None:
    pool = KeyPool(("a", "b"))
    pool.keys[0].rest(60)

    assert [key.secret for _ in range(3) if (key := pool.take(set()))] == ["b", "b", "b"]

    pool.keys[0].resting_until = time.monotonic() - 0.001
    assert {key.secret for _ in range(2) if (key := pool.take(set()))} == {"a", "b"}


def test_pool_of_resting_keys_gives_none() -> None:
    pool = KeyPool(("a", "b"))
    for key in pool.keys:
        key.rest(60)

    assert pool.take(set()) is None


def test_single_key_rests_too() -> None:
    pool = KeyPool(("only",))
    first = pool.take(set())
    assert first is not None
    first.rest(60)

    assert pool.take(set()) is None


def test_provider_without_keys_gives_none() -> None:
    assert KeyPool(()).take(set()) is None


def test_second_failure_only_lengthens_a_rest() -> None:
    """Orchestration guide 16, vector 4: Retry-After 120, then a failure that names no time."""
    (key,) = KeyPool(("a",)).keys
    key.rest(120)
    until = key.resting_until

    key.rest(60)
    assert key.resting_until == until

    key.rest(240)
    assert key.resting_until > until


def test_key_is_never_shown() -> None:
    (key,) = KeyPool(("sk-very-secret",)).keys

    assert "sk-very-secret" not in repr(key)
    assert len(key.fingerprint) == 12


@pytest.mark.parametrize(
    ("provider", "name"),
    [("openai", "OPENAI"), ("open-router", "OPEN_ROUTER"), ("z.ai", "Z_AI"), ("a1_b", "A1_B")],
)
def test_variables_are_named_after_the_provider(provider: str, name: str) -> None:
    assert registry.environment_name(provider) == name


def test_pool_of_a_provider_is_made_once_from_the_settings(settings: Settings) -> None:
    settings.PROVIDER_API_KEYS = {"REGISTRY_TEST": ("k1", "k2")}

    pool = registry.keys_of("registry-test")

    assert [key.secret for key in pool.keys] == ["k1", "k2"]
    assert registry.keys_of("registry-test") is pool
    assert registry.keys_of("registry-test-without-keys").keys == []


def test_environment_address_wins_over_the_catalogue(settings: Settings) -> None:
    settings.PROVIDER_BASE_URLS = {"REGISTRY_TEST": "https://gateway.example.com/v1/"}

    assert registry.base_url_of("registry-test", "https://api.example.com/v1") == (
        "https://gateway.example.com/v1"
    )
    assert registry.base_url_of("other", "https://api.example.com/v1/") == "https://api.example.com/v1"


def test_sandbox_stands_for_its_address(settings: Settings) -> None:
    settings.PLYRUM_SANDBOX_URL = "http://127.0.0.1:8100"

    assert registry.base_url_of("any", "{sandbox}/openai/v1") == "http://127.0.0.1:8100/openai/v1"


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize(
    "url",
    [
        "https://api.openai.com/v1",
        "https://api.groq.com:443/openai/v1",
        "https://a-b.c1.example.ru",
        "https://API.Example.COM/v1",
    ],
)
def test_public_names_are_taken(url: str) -> None:
    registry.refuse_unsafe(url)


# Source: security bar 9, the table of outgoing calls.
UNSAFE = [
    "http://api.example.com/v1",
    "ftp://api.example.com",
    "file:///etc/passwd",
    "gopher://api.example.com/",
    "//api.example.com/v1",
    "api.example.com/v1",
    "https://",
    "https:///v1",
    "",
    "https://user@api.example.com",
    "https://user:word@api.example.com",
    "https://:word@api.example.com",
    "https://@api.example.com",
    "https://127.0.0.1/v1",
    "https://8.8.8.8/v1",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.1/",
    "https://127.1/",
    "https://0177.0.0.1/",
    "https://017700000001/",
    "https://127.0.0.0x1/",
    "https://10.0.0.1/",
    "https://100.64.0.1/",
    "https://169.254.169.254/latest",
    "https://[::1]/",
    "https://[::]/",
    "https://[::ffff:10.0.0.1]/",
    "https://[::ffff:8.8.8.8]/",
    "https://[64:ff9b::a00:1]/",
    "https://[2002:a00:1::]/",
    "https://[fe80::1%25eth0]/",
    "https://[2001:4860:4860::8888]/",
    "https://[::1",
    "https://localhost/",
    "https://localhost./",
    "https://api.localhost/",
    "https://metadata.google.internal/",
    "https://metadata.google.internal./",
    "https://printer.local/",
    "https://api.example.com./v1",
    "https://host#@evil.example.com/",
    "https://host\\@evil.example.com/",
    "https://evil.example.com\\@api.example.com/",
    "https://１２７.０.０.１/",
    "https://①②⑦.0.0.1/",
    "https://api.еxample.com/",
    "https://xn--xample-2of.com/",
    "https://127。0。0。1/",
    "https://api.example.com:22/",
    "https://api.example.com:8443/",
    "https://api.example.com:99999/",
    "https://api.example.com:x/",
    "https://api.example.com/v1\r\nHost: evil.example.com",
    "https://api.example.com/v1\tx",
    " https://api.example.com/v1",
    "https://api.example.com/v1?key=1",
    "https://api.example.com/v1#part",
    "https://api_example.com/",
    "https://-api.example.com/",
    "https://api..example.com/",
]


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("url", UNSAFE)
def test_unsafe_address_is_refused(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="address"):
        registry.refuse_unsafe(url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8100/openai/v1", "http://[::1]:9/", "http://ollama:11434"])
def test_developers_may_call_their_own_machine(settings: Settings, url: str) -> None:
    settings.PLYRUM_ALLOW_LOCAL_PROVIDER_BASE_URLS = True

    registry.refuse_unsafe(url)


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "http://user@127.0.0.1", "http://:w@127.0.0.1", "http://[::1", "http://a b/"],
)
def test_developers_may_not_call_anything_else(settings: Settings, url: str) -> None:
    settings.PLYRUM_ALLOW_LOCAL_PROVIDER_BASE_URLS = True

    with pytest.raises(ImproperlyConfigured):
        registry.refuse_unsafe(url)


def test_environment_address_is_judged_too(strict: None, settings: Settings) -> None:
    settings.PROVIDER_BASE_URLS = {"REGISTRY_TEST": "http://10.0.0.1/v1"}

    with pytest.raises(ImproperlyConfigured):
        registry.base_url_of("registry-test", "https://api.example.com/v1")
