"""Forms of limits: the operators' dialogs, and the customer's own on the wallet's page."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils.formats import localize
from django.utils.timezone import localtime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from auditlog import reasons
from billing import limits, money, policies, windows
from billing.forms import Facts, FactsForm
from billing.limit_models import RequestRate, SpendLimit, Window
from billing.policies import AppliedLimit, Meter, Policy
from billing.shapes import MICRO_PER_RUB, MOST_MICRO_RUB
from billing.templatetags.money import money as shown_money
from billing.templatetags.money import money_exact
from plyrum import clock

AMOUNT_CHARS = 20
SHARED = (
    ("tier:free", gettext_lazy("каждый, кто не пополнял")),
    ("tier:paid", gettext_lazy("каждый, кто пополнял")),
    ("tier:plan", gettext_lazy("каждый с тарифом")),
    ("plan", gettext_lazy("каждый с тарифом, код которого ниже")),
    ("organisation", gettext_lazy("организация, номер которой ниже: все участники вместе")),
    ("key", gettext_lazy("ключ API, номер которого ниже")),
    ("gift:each", gettext_lazy("подарки: каждый, у кого нет своих денег")),
    ("gift:all", gettext_lazy("подарки: все вместе")),
    ("anonymous:each", gettext_lazy("без входа: каждый (пока таких запросов нет)")),
    ("anonymous:all", gettext_lazy("без входа: все вместе (пока таких запросов нет)")),
)
NAMED = ("plan", "organisation", "key")
KINDS = {
    "user": gettext_lazy("клиент"),
    "key": gettext_lazy("ключ"),
    "plan": gettext_lazy("каждый с тарифом"),
    "organisation": gettext_lazy("организация"),
    "gift": gettext_lazy("подарки"),
}


def whose(subject: str) -> str:
    """The subject of a limit in words; a customer or key by its id."""
    kind, _colon, key = subject.partition(":")
    return str(dict(SHARED).get(subject) or f"{KINDS[kind]} {key}")


def reason_field() -> forms.CharField:
    return forms.CharField(
        label=gettext_lazy("Причина"),
        min_length=reasons.SHORTEST,
        max_length=reasons.LONGEST,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text=gettext_lazy("Останется в журнале вместе с вашим именем."),
    )


class RoubleField(forms.CharField):
    """What people type, as micro-RUB; None when it is left empty."""

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        if not text:
            return None
        try:
            micro_rub = money.micro_units("".join(text.split()).replace(",", "."))
        except ValueError as error:
            raise ValidationError(_("Введите сумму в рублях, например 300 или 300,50.")) from error
        if micro_rub > MOST_MICRO_RUB:
            most = shown_money(MOST_MICRO_RUB)
            raise ValidationError(_("Лимит не больше %(most)s.") % {"most": most})
        return micro_rub


def amount_field() -> RoubleField:
    return RoubleField(
        label=gettext_lazy("Не больше, ₽"),
        max_length=AMOUNT_CHARS,
        widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal", "autocomplete": "off"}),
    )


def window_field() -> forms.ChoiceField:
    return forms.ChoiceField(label=gettext_lazy("За"), choices=Window.choices, widget=UnfoldAdminSelectWidget)


class CustomerForm(FactsForm):
    """A dialog on a customer's page: first what applies to them now."""

    def policy(self) -> Policy:
        return policies.of(self.row_id, now=clock.now())

    def facts(self) -> Facts:
        meters = policies.meters(self.policy(), now=clock.now())
        return [meter_fact(meter) for meter in meters] or [(_("Лимиты"), _("нет"))]


class LimitForm(CustomerForm):
    window = window_field()
    amount = amount_field()
    reason = reason_field()


class ReasonForm(CustomerForm):
    reason = reason_field()


class LiftForm(CustomerForm):
    """`cleaned_data["limit"]` is the counted limit that is to be lifted."""

    limit = forms.ChoiceField(label=gettext_lazy("Какой лимит"), widget=UnfoldAdminSelectWidget)
    reason = reason_field()

    def __init__(
        self, request: HttpRequest, object_id: int | str | None = None, *args: Any, **kwargs: Any
    ) -> None:
        super().__init__(request, object_id, *args, **kwargs)
        self.limits = {f"{limit.subject} {limit.window}": limit for limit in liftable(self.policy())}
        field = self.fields["limit"]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101 - declared above
        field.choices = [(name, name_of(limit)) for name, limit in self.limits.items()]

    def clean_limit(self) -> AppliedLimit:
        return self.limits[self.cleaned_data["limit"]]


class LimitRowForm(FactsForm):
    """On the page of one limit."""

    reason = reason_field()

    def facts(self) -> Facts:
        row = SpendLimit.objects.get(pk=self.row_id)
        return [(f"{whose(row.subject)}, {row.get_window_display()}", money_exact(row.limit_micro_rub))]


class SharedLimitForm(BaseDialogForm):  # type: ignore[misc]
    """`cleaned_data["subject"]` is whole: `plan:<code>`, `organisation:<id>`, `key:<id>` or one of SHARED."""

    subject = forms.ChoiceField(label=gettext_lazy("Кому"), choices=SHARED, widget=UnfoldAdminSelectWidget)
    name = forms.CharField(
        label=gettext_lazy("Код тарифа, номер организации или ключа"),
        max_length=40,
        required=False,
        widget=UnfoldAdminTextInputWidget,
    )
    window = window_field()
    amount = amount_field()
    reason = reason_field()

    def clean(self) -> dict[str, Any]:
        given: dict[str, Any] = super().clean() or self.cleaned_data
        subject, name = given.get("subject", ""), given.get("name", "")
        given["subject"] = f"{subject}:{name}" if subject in NAMED else subject
        if subject in NAMED and not limits.is_subject(given["subject"]):
            self.add_error("name", _("Таким код тарифа, номер организации или ключа не бывает."))
        return given


class RateForm(BaseDialogForm):  # type: ignore[misc]
    tier = forms.ChoiceField(
        label=gettext_lazy("Кто"), choices=RequestRate.Tier.choices, widget=UnfoldAdminSelectWidget
    )
    per_minute = forms.IntegerField(
        label=gettext_lazy("В минуту"), min_value=1, widget=UnfoldAdminTextInputWidget
    )
    per_hour = forms.IntegerField(label=gettext_lazy("В час"), min_value=1, widget=UnfoldAdminTextInputWidget)
    reason = reason_field()


class OwnLimitsForm(forms.Form):
    """The customer's own limits on the wallet's page; an empty field is no limit."""

    request = RoubleField(label=gettext_lazy("На запрос"), required=False, max_length=AMOUNT_CHARS)
    hour = RoubleField(label=gettext_lazy("На час"), required=False, max_length=AMOUNT_CHARS)
    day = RoubleField(label=gettext_lazy("На день"), required=False, max_length=AMOUNT_CHARS)
    month = RoubleField(label=gettext_lazy("На месяц"), required=False, max_length=AMOUNT_CHARS)

    @staticmethod
    def typed(amounts: dict[str, int]) -> dict[str, str]:
        """Micro-RUB by window as people type them: 300 or 300,50."""
        return {window: typed_in_rub(amount) for window, amount in amounts.items()}

    def wanted(self) -> dict[Window, int]:
        return {
            window: self.cleaned_data[window.value]
            for window in Window
            if self.cleaned_data[window.value] is not None
        }


def typed_in_rub(micro_rub: int) -> str:
    """As people type it: 300 or 300,50."""
    whole, rest = divmod(micro_rub, MICRO_PER_RUB)
    return f"{whole},{f'{rest:06d}'.rstrip('0').ljust(2, '0')}" if rest else str(whole)


def liftable(policy: Policy) -> list[AppliedLimit]:
    """What can be lifted on a customer's page."""
    return [limit for limit in policy.counted if not limit.is_lifted and not limit.is_shared]


def name_of(limit: AppliedLimit) -> str:
    until = localize(localtime(windows.end_of(limit.window, clock.now())))
    return _("%(amount)s, %(window)s, до %(until)s (%(kind)s)") % {
        "amount": shown_money(limit.limit_micro_rub),
        "window": Window(limit.window).label,
        "until": until,
        "kind": KINDS[limit.kind],
    }


def meter_fact(meter: Meter) -> tuple[str, str]:
    name = f"{meter.limit.window.label} ({KINDS[meter.limit.kind]})"
    if meter.resets_at is None:
        return name, shown_money(meter.limit.limit_micro_rub)
    used, most = shown_money(meter.used_micro_rub), shown_money(meter.limit.limit_micro_rub)
    text = _("%(used)s из %(most)s") % {"used": used, "most": most}
    return name, f"{text}, {_('снят')}" if meter.limit.is_lifted else text
