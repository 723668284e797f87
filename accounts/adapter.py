"""How allauth serves this site: our form of addresses, our letters, our journal, links from the settings.

Named in the settings (ACCOUNT_ADAPTER). Hooks instead of signals: each method is called by allauth at one
point.
"""

from typing import Any
from urllib.parse import quote

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.models import EmailAddress
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import EmailMessage
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.module_loading import import_string
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _

from accounts import emails, letters, sessions
from accounts.models import RefreshFamily, User
from accounts.requests import origin_of
from accounts.shapes import Origin
from auditlog import journal
from plyrum import clock


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    def new_user(self, request: HttpRequest) -> User:
        return User(locale=(get_language() or "ru")[:10])

    def clean_email(self, email: str) -> str:
        try:
            return emails.normalise(email)
        except ValueError as error:
            raise ValidationError(_("Проверьте адрес почты."), code="invalid") from error

    def confirm_email(self, request: HttpRequest, email_address: EmailAddress) -> bool:
        """Mirror allauth's answer on the user, where every other door reads it."""
        with transaction.atomic():
            is_confirmed = bool(super().confirm_email(request, email_address))
            if is_confirmed:
                User.objects.filter(pk=email_address.user_id).update(email_verified=True)
                self._note("accounts.user.email_verified", user_id=email_address.user_id)
                for name in settings.WHEN_EMAIL_IS_CONFIRMED:
                    import_string(name)(customer_id=email_address.user_id, now=clock.now())
        return is_confirmed

    def set_password(self, user: User, password: str) -> None:
        """Change and reset both come here: every other session ends with the old password."""
        user.set_password(password)
        with transaction.atomic():
            user.save(update_fields=["password"])
            sessions.end_all(user_id=user.pk, reason=RefreshFamily.RevokeReason.PASSWORD, now=clock.now())
            self._note("accounts.user.password_changed", user_id=user.pk)
        user.refresh_from_db(fields=["token_version"])

    def post_login(self, request: HttpRequest, user: User, **facts: Any) -> HttpResponse:
        with transaction.atomic():
            self._note("accounts.session.opened", user_id=user.pk)
        response: HttpResponse = super().post_login(request, user, **facts)
        return response

    def authentication_failed(self, request: HttpRequest, **credentials: Any) -> None:
        """Who it was aimed at stays unsaid: the journal holds no addresses."""
        with transaction.atomic():
            self._note("accounts.session.refused", user_id=None, status="denied")

    def get_client_ip(self, request: HttpRequest) -> str:
        return getattr(request, "client_ip", "") or "unknown"

    def render_mail(
        self, template_prefix: str, email: str | list[str], context: dict[str, Any], headers: Any = None
    ) -> EmailMessage:
        """allauth's "account/email/<name>" is our letter "<name>"."""
        to = email if isinstance(email, str) else email[0]
        request_id = getattr(self.request, "request_id", "")
        letter = letters.compose(
            template_prefix.rpartition("/")[2], to=to, context={**context, "request_id": request_id}
        )
        letter.extra_headers.update(headers or {})
        return letter

    def send_account_already_exists_mail(self, email: str) -> None:
        self.send_mail(
            "account/email/account_already_exists",
            email,
            {
                "password_reset_url": self._address("account_reset_password"),
                "login_url": self._address("account_login"),
            },
        )

    def get_reset_password_from_key_url(self, key: str) -> str:
        """The host comes from the settings, never from the request's Host header."""
        path = reverse("account_reset_password_from_key", kwargs={"uidb36": "UID", "key": "KEY"})
        return f"{settings.SITE_URL}{path.replace('UID-KEY', quote(key))}"

    def _address(self, name: str) -> str:
        return f"{settings.SITE_URL}{reverse(name)}"

    def _note(self, action: str, *, user_id: Any, status: str = "ok") -> None:
        origin = origin_of(self.request, "site") if self.request else Origin()
        journal.record(
            actor=origin.customer(user_id) if user_id else origin.somebody(),
            action=action,
            subject=f"user:{user_id}" if user_id else "user:unknown",
            status=status,
            data={"surface": origin.surface},
            target_user_id=user_id,
        )
