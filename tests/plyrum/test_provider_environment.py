"""Addresses and keys of providers from variables, old names included."""

import pytest

from plyrum import provider_environment


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, {}),
        ({"PLYRUM_OPENAI_BASE_URL": "https://a"}, {"OPENAI": "https://a"}),
        ({"PLYRUM_OPEN_ROUTER_BASE_URL": "https://a"}, {"OPEN_ROUTER": "https://a"}),
        ({"PLYRUM_OPENAI_BASE_URL": ""}, {}),
        ({"PLYRUM_openai_BASE_URL": "https://a", "OPENAI_BASE_URL": "https://b"}, {}),
        ({"ANTHROPIC_BASE_URL": "https://old"}, {"ANTHROPIC": "https://old"}),
        ({"OPENROUTER_BASE_URL": "https://old"}, {"OPENROUTER": "https://old"}),
        (
            {"ANTHROPIC_BASE_URL": "https://old", "PLYRUM_ANTHROPIC_BASE_URL": "https://new"},
            {"ANTHROPIC": "https://new"},
        ),
        (
            {"ANTHROPIC_BASE_URL": "https://old", "PLYRUM_ANTHROPIC_BASE_URL": ""},
            {"ANTHROPIC": "https://old"},
        ),
        ({"PLYRUM_SITE_URL": "x", "DATABASE_URL": "y", "PLYRUM_BASE_URL": "z"}, {}),
    ],
)
def test_addresses(environ: dict[str, str], found: dict[str, str]) -> None:
    assert provider_environment.base_urls(environ) == found


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, {}),
        ({"PLYRUM_OPENAI_API_KEY": "k"}, {"OPENAI": ("k",)}),
        ({"PLYRUM_OPENAI_API_KEYS": "k1, k2 ,,k3,"}, {"OPENAI": ("k1", "k2", "k3")}),
        ({"PLYRUM_OPENAI_API_KEYS": "k1,k2", "PLYRUM_OPENAI_API_KEY": "k3"}, {"OPENAI": ("k1", "k2")}),
        ({"PLYRUM_OPENAI_API_KEYS": " , ", "PLYRUM_OPENAI_API_KEY": "k3"}, {"OPENAI": ("k3",)}),
        ({"PLYRUM_OPENAI_API_KEY": ""}, {}),
        ({"GROQ_API_KEY": "k", "FIREWORKS_API_KEY": "l"}, {"GROQ": ("k",), "FIREWORKS": ("l",)}),
        ({"NVIDIA_API_KEY": "k", "OPENROUTER_API_KEY": "l"}, {"NVIDIA": ("k",), "OPENROUTER": ("l",)}),
        ({"ANTHROPIC_AUTH_TOKEN": "k"}, {"ANTHROPIC": ("k",)}),
        ({"PLYRUM_ANTHROPIC_AUTH_TOKENS": "k,l"}, {"ANTHROPIC": ("k", "l")}),
        ({"PLYRUM_ANTHROPIC_AUTH_TOKEN": "k"}, {"ANTHROPIC": ("k",)}),
        ({"GROQ_API_KEY": "old", "PLYRUM_GROQ_API_KEYS": "new"}, {"GROQ": ("new",)}),
        ({"GROQ_API_KEY": ""}, {}),
        ({"OPENAI_API_KEY": "somebody else's"}, {}),
    ],
)
def test_keys(environ: dict[str, str], found: dict[str, tuple[str, ...]]) -> None:
    assert provider_environment.api_keys(environ) == found


@pytest.mark.parametrize("names", [("ANTHROPIC_AUTH_TOKEN", "PLYRUM_ANTHROPIC_AUTH_TOKENS")])
def test_several_keys_win_over_one_in_whichever_order_they_stand(names: tuple[str, str]) -> None:
    one, several = names
    for environ in ({one: "a", several: "b,c"}, {several: "b,c", one: "a"}):
        assert provider_environment.api_keys(environ) == {"ANTHROPIC": ("b", "c")}


def test_empty_variable_does_not_hide_another() -> None:
    environ = {"ANTHROPIC_AUTH_TOKEN": "a", "PLYRUM_ANTHROPIC_AUTH_TOKEN": ""}

    assert provider_environment.api_keys(environ) == {"ANTHROPIC": ("a",)}
