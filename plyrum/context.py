"""What every page knows: the theme, the seller, whether the outside is played by the sandbox."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest

THEMES = ("auto", "light", "dark")


def frame(request: HttpRequest) -> dict[str, Any]:
    theme = request.COOKIES.get("theme", "auto")
    return {
        "theme": theme if theme in THEMES else "auto",
        "seller": settings.SELLER,
        "is_sandbox": bool(settings.PLYRUM_SANDBOX_URL),
        "sandbox_url": settings.PLYRUM_SANDBOX_URL,
        "request_id": getattr(request, "request_id", ""),
    }
