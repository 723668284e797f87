"""Addresses and keys of model providers from the environment, by the provider's name in upper case."""

import re
from collections.abc import Mapping

_VARIABLE = re.compile(r"PLYRUM_([A-Z0-9_]+?)_(BASE_URL|API_KEYS|API_KEY)")
# Names of the earlier systems that stay valid.
_LEGACY = {"ANTHROPIC_BASE_URL": "ANTHROPIC", "OPENROUTER_BASE_URL": "OPENROUTER"}
_LEGACY_KEYS = {
    "ANTHROPIC_AUTH_TOKEN": "ANTHROPIC",
    "PLYRUM_ANTHROPIC_AUTH_TOKEN": "ANTHROPIC",
    "PLYRUM_ANTHROPIC_AUTH_TOKENS": "ANTHROPIC",
    "GROQ_API_KEY": "GROQ",
    "FIREWORKS_API_KEY": "FIREWORKS",
    "NVIDIA_API_KEY": "NVIDIA",
    "OPENROUTER_API_KEY": "OPENROUTER",
}


def base_urls(environ: Mapping[str, str]) -> dict[str, str]:
    """{provider name: address}."""
    found = {_LEGACY[name]: value for name, value in environ.items() if name in _LEGACY and value}
    for name, value in environ.items():
        match = _VARIABLE.fullmatch(name)
        if match and match[2] == "BASE_URL" and value:
            found[match[1]] = value
    return found


def api_keys(environ: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """{provider name: keys in the order given}; a plural variable wins over a single one."""
    found = {}
    for name, provider in _LEGACY_KEYS.items():  # the plural stands last
        if _split(environ.get(name, "")):
            found[provider] = _split(environ[name])
    for kind in ("API_KEY", "API_KEYS"):
        for name, value in environ.items():
            match = _VARIABLE.fullmatch(name)
            if match and match[2] == kind and _split(value):
                found[match[1]] = _split(value)
    return found


def _split(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())
