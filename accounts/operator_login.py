"""The back office's sign-in form: Django admin's own, throttled and journalled like every other sign-in.

Named in the settings (UNFOLD, LOGIN, form).
"""

from typing import Any

from django import forms
from django.db import transaction
from django.utils.translation import gettext_lazy as _
from unfold.forms import AuthenticationForm

from accounts import login
from accounts.requests import origin_of
from accounts.shapes import Origin
from auditlog import journal
from auditlog.actors import Actor
from plyrum.errors import TooManyRequests


class OperatorLoginForm(AuthenticationForm):  # type: ignore[misc]
    def clean(self) -> dict[str, Any]:
        origin = origin_of(self.request, "site")
        address = str(self.cleaned_data.get("username") or "").strip().lower()
        try:
            login.spend_attempt(address, origin=origin)
        except TooManyRequests as error:
            raise forms.ValidationError(
                _("Слишком много попыток. Повторите позже."), code="rate_limited"
            ) from error
        try:
            cleaned: dict[str, Any] = super().clean()
        except forms.ValidationError:
            self._note(origin, "accounts.operator.login_refused", "denied")
            raise
        login.give_attempt_back(address, origin=origin)
        self._note(origin, "accounts.operator.logged_in", "ok")
        return cleaned

    @transaction.atomic
    def _note(self, origin: Origin, action: str, status: str) -> None:
        user = self.get_user()
        journal.record(
            actor=self._actor(origin),
            action=action,
            subject=f"user:{user.pk}" if user else "user:unknown",
            status=status,
            target_user_id=user.pk if user else None,
        )

    def _actor(self, origin: Origin) -> Actor:
        user = self.get_user()
        if user is None:
            return origin.somebody()
        who = Actor.operator if user.is_operator else Actor.customer
        return who(user.pk, ip=origin.ip, request_id=origin.request_id)
