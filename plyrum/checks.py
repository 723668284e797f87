"""Launch checks of the frame: each names what is wrong and the exact remedy. Run by `check --deploy`."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.exceptions import ImproperlyConfigured


@register(Tags.security, deploy=True)
def production_is_not_development(**_: Any) -> list[CheckMessage]:
    """Refuse what must never reach production: debug, sandbox addresses, the development superaccount."""
    if not settings.IS_PRODUCTION:
        return []
    return [
        Error(text, hint=f"Unset or change {variable}.", id=f"plyrum.E00{number}")
        for number, (is_wrong, variable, text) in enumerate(_production_faults(), start=1)
        if is_wrong
    ]


def refuse_to_start() -> None:
    """Raise ImproperlyConfigured if production would run on development's settings."""
    faults = production_is_not_development()
    if faults:
        words = " ".join(f"{fault.msg} {fault.hint}" for fault in faults)
        raise ImproperlyConfigured(f"Production does not start like this. {words}")


def _production_faults() -> list[tuple[bool, str, str]]:
    local = ("127.0.0.1", "localhost", "sandbox")
    return [
        (settings.DEBUG, "PLYRUM_DEBUG", "Debug is on."),
        (bool(settings.PLYRUM_SANDBOX_URL), "PLYRUM_SANDBOX_URL", "The sandbox plays the outside world."),
        (
            settings.PLYRUM_DEV_SUPERACCOUNT_ENABLED,
            "PLYRUM_DEV_SUPERACCOUNT_ENABLED",
            "The development superaccount is on.",
        ),
        (
            any(name in settings.YOOKASSA_API_BASE_URL for name in local),
            "YOOKASSA_API_BASE_URL",
            "Payments go to a local address.",
        ),
        (settings.PAYMENTS_PROVIDER == "mock", "PAYMENTS_PROVIDER", "Payments are played by the mock."),
        (not settings.ALLOWED_HOSTS, "PLYRUM_ALLOWED_HOSTS", "No host name is allowed."),
        (
            settings.PLYRUM_ALLOW_LOCAL_PROVIDER_BASE_URLS,
            "PLYRUM_ALLOW_LOCAL_PROVIDER_BASE_URLS",
            "Model providers on local addresses are allowed.",
        ),
        (
            settings.PAYMENTS_LIVE and not settings.YOOKASSA_RETURN_URL.startswith("https://"),
            "YOOKASSA_RETURN_URL",
            "Live payments return to an address without https.",
        ),
        (
            not settings.PLYRUM_FX_BASE_URL.startswith("https://"),
            "PLYRUM_FX_BASE_URL",
            "Exchange rates are read without https.",
        ),
    ]
