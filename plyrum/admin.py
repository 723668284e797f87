"""The back-office site: Unfold's, with its own content policy, for staff only.

Unfold's Alpine evaluates expressions, so only these views get `unsafe-eval`; customer pages stay strict.
"""

from collections.abc import Callable
from typing import Any

from csp.constants import SELF, UNSAFE_EVAL, UNSAFE_INLINE
from csp.decorators import csp_replace
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext_lazy as _
from unfold.sites import UnfoldAdminSite

_wider_policy = csp_replace(
    {"script-src": [SELF, UNSAFE_EVAL], "style-src": [SELF, UNSAFE_INLINE], "form-action": [SELF]}
)


class BackOffice(UnfoldAdminSite):  # type: ignore[misc]  # Unfold has no types
    site_title = _("Plyrum: управление")
    index_title = _("Сводка")

    def admin_view(self, view: Callable[..., Any], cacheable: bool = False) -> Callable[..., Any]:
        wrapped: Callable[..., Any] = _wider_policy(super().admin_view(view, cacheable))
        return wrapped

    def has_permission(self, request: HttpRequest) -> bool:
        """Operators: staff by role, or the people of PLYRUM_ADMIN_USER_IDS."""
        return bool(request.user.is_active and getattr(request.user, "is_operator", False))

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        if request.method == "GET" and REDIRECT_FIELD_NAME not in request.GET:
            # Unfold's form forgets where to go; without a target people would land on the customers' site.
            index = urlencode({REDIRECT_FIELD_NAME: reverse("admin:index")})
            return HttpResponseRedirect(f"{request.path}?{index}")
        login: Callable[..., Any] = _wider_policy(super().login)
        return login(request, extra_context)
