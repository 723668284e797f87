"""What a door takes out of a request for the acts: the origin, the actor. Used by the doors of all apps."""

from django.http import HttpRequest
from django.utils.translation import get_language

from accounts.credentials import Credential
from accounts.shapes import Origin
from auditlog.actors import Actor

USER_AGENT_CHARS = 400


def origin_of(request: HttpRequest, surface: str) -> Origin:
    """`surface` is "site" or "api". The address is the one the frame found, never a header read here."""
    return Origin(
        ip=getattr(request, "client_ip", ""),
        request_id=getattr(request, "request_id", ""),
        user_agent=request.headers.get("User-Agent", "")[:USER_AGENT_CHARS],
        surface=surface,
        locale=get_language() or "ru",
    )


def actor_of(request: HttpRequest) -> Actor:
    """The customer who calls, by access token (API) or by session (site)."""
    credential: Credential | None = getattr(request, "credential", None)
    user_id = credential.user_id if credential else request.user.pk
    return Actor.customer(
        str(user_id or ""),
        ip=getattr(request, "client_ip", ""),
        request_id=getattr(request, "request_id", ""),
    )
