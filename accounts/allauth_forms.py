"""allauth's sign-up form inside our transaction. Apart from `forms.py`, which allauth itself imports."""

from typing import Any

from allauth.account.forms import SignupForm as AllauthSignupForm
from django.db import IntegrityError, transaction
from django.http import HttpRequest


class SignupForm(AllauthSignupForm):  # type: ignore[misc]
    """User, e-mail address, acceptance and journal entry are stored together or not at all."""

    account_already_exists: bool
    field_order = ("email", "password1", "accept_offer")  # consent comes last, before the button

    def try_save(self, request: HttpRequest) -> Any:
        """Losing a race for an address looks exactly like an address that was taken before."""
        if self.account_already_exists:
            return super().try_save(request)  # sends a letter, so it stands outside any transaction
        try:
            with transaction.atomic(durable=True):
                return super().try_save(request)
        except IntegrityError:
            self.account_already_exists = True
            return super().try_save(request)
