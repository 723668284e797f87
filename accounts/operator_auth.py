"""Who may use the operator API: staff with an access token or with the back office's session.

Named in the settings as DRF's defaults, so that a new view is closed. Nobody gets 401, a customer 403, an
operator of another role 403 (a view names its roles in `operator_roles`).
"""

from typing import Any

from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from accounts.auth import bearer_of, credential_of
from accounts.credentials import Credential, for_site_session
from accounts.models import User


class OperatorAuthentication(BaseAuthentication):
    """Sets `request.user` (a User) and `request.auth` (a Credential)."""

    def authenticate(self, request: Request) -> tuple[User, Credential] | None:
        if token := bearer_of(request):
            credential = credential_of(token)
            return User.objects.get(pk=credential.user_id), credential
        user = request._request.user
        if not isinstance(user, User):
            return None
        # A browser's session is only believed together with the token that other sites cannot read.
        SessionAuthentication().enforce_csrf(request)
        return user, for_site_session(user.pk)

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="plyrum"'


class IsOperator(BasePermission):
    """An operator, and of one of the view's `operator_roles` when it names some."""

    def has_permission(self, request: Request, view: Any) -> bool:
        credential = request.auth
        if not isinstance(credential, Credential) or not credential.is_operator:
            return False
        wanted = getattr(view, "operator_roles", None)
        return wanted is None or credential.role in wanted
