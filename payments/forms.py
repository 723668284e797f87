"""The top-up form of the site: which sum, where the receipt goes, which offer is accepted."""

from typing import Any

from django import forms
from django.conf import settings
from django.utils.translation import gettext_lazy as _

OWN = "own"
SPACES = str.maketrans("", "", " \u00a0\u202f\u2009")


class TopUpForm(forms.Form):
    """`cleaned_data["rub"]` is the sum in whole roubles, from the chosen preset or the customer's own."""

    preset = forms.CharField(required=False, max_length=10)
    amount_rub = forms.CharField(required=False, max_length=20)
    receipt_email = forms.EmailField(
        max_length=254,
        error_messages={
            "required": _("Укажите почту: на неё придёт кассовый чек."),
            "invalid": _("Проверьте адрес почты."),
        },
    )
    accept_offer = forms.BooleanField(
        error_messages={"required": _("Отметьте согласие с офертой: без него нельзя принять оплату.")}
    )
    offer_version = forms.IntegerField(min_value=1, max_value=2**31 - 1)
    idempotency_key = forms.UUIDField()

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        preset, own = cleaned.get("preset", ""), cleaned.get("amount_rub", "")
        text = own if preset in ("", OWN) else preset
        digits = text.translate(SPACES)
        lowest, highest = settings.PAYMENTS_MIN_TOPUP_RUB, settings.PAYMENTS_MAX_TOPUP_RUB
        if not (digits.isascii() and digits.isdigit()):
            self.add_error("amount_rub", _("Укажите сумму целым числом рублей."))
        elif not lowest <= int(digits) <= highest:
            limits = {"min": lowest, "max": highest}
            self.add_error("amount_rub", _("Сумма должна быть от %(min)s до %(max)s ₽.") % limits)
        else:
            cleaned["rub"] = int(digits)
        return cleaned
