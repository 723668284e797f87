"""Forms of the documents' pages: the organisation, a new invoice, the period of a reconciliation act."""

from datetime import date, timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.utils.translation import gettext_lazy as _

from payments.forms import SPACES
from payments.invoices import requisites
from payments.invoices.requisites import Party

_NUMERIC = {"inputmode": "numeric", "autocomplete": "off"}


class OrganisationForm(forms.Form):
    """The requisites of `requisites.Party`; numbers may be pasted with spaces."""

    name = forms.CharField(label=_("Название"), max_length=requisites.NAME_CHARS)
    inn = forms.CharField(label=_("ИНН"), max_length=30, widget=forms.TextInput(_NUMERIC))
    kpp = forms.CharField(
        label=_("КПП"), max_length=30, required=False, help_text=_("У предпринимателя его нет.")
    )
    ogrn = forms.CharField(
        label=_("ОГРН или ОГРНИП"), max_length=30, required=False, widget=forms.TextInput(_NUMERIC)
    )
    address = forms.CharField(label=_("Юридический адрес"), max_length=requisites.ADDRESS_CHARS)
    signatory = forms.CharField(label=_("Кто подписывает"), max_length=160, required=False)
    bank_name = forms.CharField(
        label=_("Банк"),
        max_length=requisites.BANK_NAME_CHARS,
        required=False,
        help_text=_("Банк можно не указывать. Если указан, нужны все четыре поля."),
    )
    bic = forms.CharField(label=_("БИК"), max_length=30, required=False, widget=forms.TextInput(_NUMERIC))
    account = forms.CharField(
        label=_("Расчётный счёт"), max_length=40, required=False, widget=forms.TextInput(_NUMERIC)
    )
    correspondent_account = forms.CharField(
        label=_("Корреспондентский счёт"), max_length=40, required=False, widget=forms.TextInput(_NUMERIC)
    )

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        for name in ("inn", "kpp", "ogrn", "bic", "account", "correspondent_account"):
            cleaned[name] = requisites.tidy(cleaned.get(name, ""))
        for name, fault in requisites.faults(Party.of(cleaned)).items():
            if name not in self.errors:
                self.add_error(name, str(fault))
        return cleaned

    def party(self) -> Party:
        return Party.of(self.cleaned_data)


class InvoiceForm(forms.Form):
    """`cleaned_data["rub"]` holds the whole roubles."""

    amount_rub = forms.CharField(max_length=20, error_messages={"required": _("Укажите сумму.")})
    accept_offer = forms.BooleanField(
        error_messages={"required": _("Отметьте согласие с офертой: без него нельзя выставить счёт.")}
    )
    offer_version = forms.IntegerField(min_value=1, max_value=2**31 - 1)
    idempotency_key = forms.UUIDField()

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        digits = cleaned.get("amount_rub", "").translate(SPACES)
        lowest, highest = settings.PAYMENTS_MIN_TOPUP_RUB, settings.PAYMENTS_MAX_INVOICE_RUB
        if "amount_rub" not in cleaned:
            return cleaned
        if not (digits.isascii() and digits.isdigit()):
            self.add_error("amount_rub", _("Укажите сумму целым числом рублей."))
        elif not lowest <= int(digits) <= highest:
            limits = {"min": lowest, "max": highest}
            self.add_error("amount_rub", _("Сумма должна быть от %(min)s до %(max)s ₽.") % limits)
        else:
            cleaned["rub"] = int(digits)
        return cleaned


class DayInput(forms.DateInput):
    input_type = "date"


class PeriodForm(forms.Form):
    """The last whole month unless something else is chosen."""

    first_day = forms.DateField(label=_("С"), widget=DayInput(format="%Y-%m-%d"))
    last_day = forms.DateField(label=_("По"), widget=DayInput(format="%Y-%m-%d"))

    @classmethod
    def of_last_month(cls, today: date) -> "PeriodForm":
        last_day = today.replace(day=1) - timedelta(days=1)
        return cls(initial={"first_day": last_day.replace(day=1), "last_day": last_day})
