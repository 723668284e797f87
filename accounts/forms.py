"""The part of the site's sign-up form that is ours: the acceptance of the offer.

allauth builds its sign-up form on this class (ACCOUNT_SIGNUP_FORM_CLASS), so nothing of allauth's forms may
be imported here.
"""

from typing import Any

from django import forms
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from accounts import signup
from accounts.models import User
from accounts.requests import origin_of
from legal import documents
from plyrum import clock


class OfferForm(forms.Form):
    """An unticked box of its own for the offer, bound to the version that the page showed."""

    accept_offer = forms.BooleanField(
        label=_("Принимаю условия оферты"),
        required=True,
        error_messages={
            "required": _("Отметьте, что принимаете оферту: без этого нельзя зарегистрироваться.")
        },
    )
    offer_version = forms.UUIDField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.is_bound:
            self.initial["offer_version"] = documents.current("offer", at=clock.now()).pk

    def clean_offer_version(self) -> Any:
        """A page left open over a change of the offer must show the new text first."""
        shown = self.cleaned_data["offer_version"]
        in_force = documents.current("offer", at=clock.now()).pk
        if shown and shown != in_force:
            self.data = {**dict(self.data.items()), "offer_version": str(in_force)}
            self.add_error(
                "accept_offer",
                _("Оферта изменилась, пока страница была открыта. Прочтите её и отметьте снова."),
            )
        return in_force

    def signup(self, request: HttpRequest, user: User) -> None:
        """allauth's hook after the user is saved: the acceptance and the journal entry, same transaction."""
        signup.welcome(user, origin=origin_of(request, "site"), now=clock.now())
