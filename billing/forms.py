"""The back office's forms of operators' acts. Each says what will happen before its button.

A form carries the key of its act, made when it is opened: sent twice, it is one act.
"""

from abc import abstractmethod
from datetime import date, datetime, time, timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils.formats import localize
from django.utils.timezone import localdate, localtime, make_aware
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.forms import BaseDialogForm
from unfold.widgets import (
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from auditlog import reasons
from auditlog.admin import OperatorActs
from auditlog.requests import operator_of
from billing import acts, allowances, money, queries, words
from billing.acts import Asking
from billing.models import Hold, OperatorRequest
from billing.templatetags.money import money as shown_money
from billing.templatetags.money import money_exact
from plyrum import clock
from plyrum.ids import uuid7

Facts = list[tuple[str, str]]
KEY_CHARS = 255
LONGEST_BONUS = timedelta(days=3650)


def _new_key() -> str:
    return str(uuid7())


def _reason_field() -> forms.CharField:
    return forms.CharField(
        label=gettext_lazy("Причина"),
        min_length=reasons.SHORTEST,
        max_length=reasons.LONGEST,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text=gettext_lazy("Останется в журнале вместе с вашим именем."),
    )


class FactsForm(BaseDialogForm):  # type: ignore[misc]
    """A dialog that first shows facts, then asks."""

    form_before_template = "admin/act_facts.html"

    def __init__(
        self, request: HttpRequest, object_id: int | str | None = None, *args: Any, **kwargs: Any
    ) -> None:
        super().__init__(request, object_id, *args, **kwargs)
        self.row_id = OperatorActs.id_from_path(str(object_id))

    def get_before_template_context(
        self, request: HttpRequest, object_id: int | str | None = None
    ) -> dict[str, Any]:
        return {"facts": self.facts()}

    @property
    def role(self) -> str:
        return str(self.request.user.operator_role)

    @abstractmethod
    def facts(self) -> Facts:
        """Names and values for the row on whose page the form is."""


class ActForm(FactsForm):
    reason = _reason_field()
    ticket = forms.CharField(
        label=gettext_lazy("Обращение"),
        max_length=acts.TICKET_CHARS,
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text=gettext_lazy("Номер или ссылка, если клиент писал."),
    )
    key = forms.CharField(max_length=KEY_CHARS, initial=_new_key, widget=forms.HiddenInput)

    def asking(self) -> Asking:
        return Asking(
            reason=self.cleaned_data["reason"],
            ticket=self.cleaned_data["ticket"],
            key=self.cleaned_data["key"],
            now=clock.now(),
            actor=operator_of(self.request),
        )


class AmountForm(ActForm):
    """An amount in roubles and kopecks; `cleaned_data["amount"]` is in micro-RUB."""

    amount = forms.CharField(
        label=gettext_lazy("Сумма, ₽"),
        max_length=20,
        widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal", "autocomplete": "off"}),
        help_text=gettext_lazy("Рубли и копейки, например 1500,50."),
    )
    field_order = ["amount"]

    def facts(self) -> Facts:
        balance = queries.balance(self.row_id, now=clock.now())
        return [
            (_("Можно потратить"), money_exact(balance.balance_micro_rub)),
            (_("В резерве"), money_exact(balance.reserved_micro_rub)),
            *words.limits(self.role),
        ]

    def clean_amount(self) -> int:
        try:
            micro_rub = money.from_person(self.cleaned_data["amount"])
        except ValueError as error:
            raise ValidationError(_("Введите сумму в рублях, например 1500 или 1500,50.")) from error
        most = allowances.most(self.role)
        if not 0 < micro_rub <= most:
            raise ValidationError(
                _("Сумма должна быть больше нуля и не больше %(most)s.") % {"most": shown_money(most)}
            )
        return micro_rub


class DayInput(UnfoldAdminTextInputWidget):  # type: ignore[misc]
    input_type = "date"


class BonusForm(AmountForm):
    last_day = forms.DateField(
        label=gettext_lazy("Последний день"),
        required=False,
        widget=DayInput,
        help_text=gettext_lazy("По Москве, включительно. Пусто: бонус не сгорит."),
    )
    field_order = ["amount", "last_day"]

    def clean_last_day(self) -> date | None:
        day: date | None = self.cleaned_data["last_day"]
        if day is not None and not localdate() <= day <= localdate() + LONGEST_BONUS:
            raise ValidationError(_("Выберите день от сегодняшнего, не дальше десяти лет."))
        return day

    def expires_at(self) -> datetime | None:
        """The end of the last day."""
        day: date | None = self.cleaned_data["last_day"]
        return make_aware(datetime.combine(day + timedelta(days=1), time())) if day is not None else None


class DisputeForm(AmountForm):
    payment_id = forms.UUIDField(
        label=gettext_lazy("Пополнение"),
        widget=UnfoldAdminTextInputWidget,
        help_text=gettext_lazy("Номер зачисленного платежа этого клиента."),
    )
    dispute_id = forms.CharField(
        label=gettext_lazy("Номер спора"),
        max_length=acts.DISPUTE_CHARS,
        widget=UnfoldAdminTextInputWidget,
        help_text=gettext_lazy("Как его называет банк: один спор проводится один раз."),
    )
    field_order = ["payment_id", "dispute_id", "amount"]

    def clean(self) -> dict[str, Any]:
        given: dict[str, Any] = super().clean()
        topup = queries.topup_of(given["payment_id"]) if "payment_id" in given else None
        if "payment_id" in given and (topup is None or topup.customer_id != self.row_id):
            self.add_error("payment_id", _("У этого клиента нет такого зачисленного платежа."))
        elif topup is not None and given.get("amount", 0) > topup.amount_micro_rub:
            most = money_exact(topup.amount_micro_rub)
            self.add_error("amount", _("Платёж был на %(most)s.") % {"most": most})
        return given


class ReversalForm(ActForm):
    def facts(self) -> Facts:
        charge = queries.charge_of_run(self.row_id)
        amount = charge.amount_micro_rub if charge is not None else 0
        return [(_("Вернётся клиенту"), money_exact(amount)), *words.limits(self.role)[1:]]


class ReleaseForm(ActForm):
    def facts(self) -> Facts:
        hold = Hold.objects.get(pk=self.row_id)
        return [
            (_("Снова можно будет потратить"), money_exact(hold.amount_micro_rub)),
            (_("Иначе освободится"), str(localize(localtime(hold.expires_at)))),
        ]


class ApprovalForm(FactsForm):
    """Carries the hash of what it shows, so that nothing else can be approved by it."""

    sha256 = forms.CharField(max_length=64, widget=forms.HiddenInput)

    def __init__(
        self, request: HttpRequest, object_id: int | str | None = None, *args: Any, **kwargs: Any
    ) -> None:
        super().__init__(request, object_id, *args, **kwargs)
        self.row = OperatorRequest.objects.get(pk=self.row_id)
        self.fields["sha256"].initial = self.row.sha256

    def facts(self) -> Facts:
        return words.facts(self.row)


class RefusalForm(ApprovalForm):
    reason = _reason_field()
