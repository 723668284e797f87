"""The back office's forms of acts on plans. Each asks for a reason; sums are in roubles and kopecks."""

from datetime import date, datetime, time, timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.timezone import localdate, make_aware
from django.utils.translation import gettext_lazy as _
from unfold.forms import BaseDialogForm
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from accounts.errors import UserNotFound
from accounts.models import User
from auditlog import reasons
from billing import allowances, money
from billing.templatetags.money import money as shown_money
from plans import queries, words
from plans.models import Subscription
from plans.shapes import CampaignTerms, Terms
from plans.subscriptions import LONGEST_EXTENSION
from plyrum import clock
from plyrum.ids import uuid7

MOST_MONTHS = 12
MOST_DAYS = 3650
MOST_IMAGES = 1_000_000
MOST_USES = 10_000_000


def _new_key() -> str:
    return str(uuid7())


def _input(type: str = "text") -> UnfoldAdminTextInputWidget:
    widget = UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"})
    widget.input_type = type
    return widget


class RublesField(forms.CharField):
    """A sum in roubles and kopecks; its value is in micro-RUB, None when it is empty."""

    def __init__(self, **facts: Any) -> None:
        super().__init__(max_length=20, widget=_input(), **facts)

    def clean(self, value: Any) -> Any:
        text = "".join(str(super().clean(value)).split()).replace(",", ".")
        if not text:
            return None
        try:
            return money.from_provider(text)
        except ValueError as error:
            raise ValidationError(_("Введите сумму в рублях, например 1500 или 1500,50.")) from error


class CountField(forms.IntegerField):
    def __init__(self, **facts: Any) -> None:
        super().__init__(widget=_input("number"), **facts)


class DayField(forms.DateField):
    def __init__(self, **facts: Any) -> None:
        super().__init__(widget=_input("date"), **facts)


class ReasonForm(BaseDialogForm):  # type: ignore[misc]
    """A reason, and the key that makes a form sent twice one act."""

    reason = forms.CharField(
        label=_("Причина"),
        min_length=reasons.SHORTEST,
        max_length=reasons.LONGEST,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text=_("Останется в журнале вместе с вашим именем."),
    )
    key = forms.CharField(max_length=100, initial=_new_key, widget=forms.HiddenInput)

    @property
    def reason_given(self) -> str:
        return str(self.cleaned_data["reason"])

    @property
    def alone_micro_rub(self) -> int:
        """What the role of who fills it in gives without a second person."""
        return allowances.alone(self.request.user.operator_role)


class TermsForm(ReasonForm):
    code = forms.SlugField(label=_("Код"), max_length=40, widget=_input())
    name = forms.CharField(label=_("Название"), max_length=80, widget=_input())
    price = RublesField(label=_("Цена за период, ₽"))
    member_price = RublesField(label=_("Цена для организаций, ₽"), required=False)
    months = CountField(label=_("Месяцев в периоде"), min_value=1, max_value=MOST_MONTHS, initial=1)
    grant = RublesField(label=_("Начисление за период, ₽"), initial="0")
    rollover_cap = RublesField(label=_("Переносится не больше, ₽"), initial="0")
    image_quota = CountField(label=_("Картинок за период"), min_value=0, max_value=MOST_IMAGES, initial=0)
    first_day = DayField(
        label=_("Действует с"),
        initial=localdate,
        help_text=_("Для новых покупок. Продления возьмут новую цену, если она известна за 7 дней."),
    )
    field_order = ["code", "name", "price", "member_price", "months", "grant", "rollover_cap", "image_quota"]

    def terms(self) -> Terms:
        data = self.cleaned_data
        return Terms(
            price_micro_rub=data["price"],
            member_price_micro_rub=data["member_price"],
            period_months=data["months"],
            grant_micro_rub=data["grant"],
            rollover_cap_micro_rub=data["rollover_cap"],
            image_quota=data["image_quota"],
        )

    def valid_from(self) -> datetime:
        """The day's beginning in Moscow; today means now: what is sold already was sold by its own terms."""
        return max(_begins(self.cleaned_data["first_day"]), clock.now())


class PackForm(ReasonForm):
    amount = RublesField(label=_("Пополнение, ₽"))
    bonus = RublesField(label=_("Бонус, ₽"))
    days = CountField(
        label=_("Бонус живёт дней"),
        min_value=1,
        max_value=MOST_DAYS,
        required=False,
        help_text=_("Пусто: без срока."),
    )
    field_order = ["amount", "bonus", "days"]

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        amount, bonus = data.get("amount"), data.get("bonus")
        if amount is not None and bonus is not None:
            most = min(amount, self.alone_micro_rub)
            if not 0 < bonus <= most:
                self.add_error(
                    "bonus",
                    _("Бонус больше нуля и не больше %(most)s.") % {"most": shown_money(most)},
                )
        return data


class CampaignForm(ReasonForm):
    name = forms.CharField(label=_("Название"), max_length=80, widget=_input())
    code = forms.CharField(
        label=_("Промокод"),
        max_length=60,
        required=False,
        widget=_input(),
        help_text=_("Пусто: подарок каждому, кто подтвердит почту."),
    )
    amount = RublesField(label=_("Бонус, ₽"))
    days = CountField(label=_("Бонус живёт дней"), min_value=1, max_value=MOST_DAYS, initial=30)
    first_day = DayField(label=_("Первый день"), initial=localdate)
    last_day = DayField(label=_("Последний день"), required=False, help_text=_("По Москве, включительно."))
    uses_limit = CountField(
        label=_("Всего раз"),
        min_value=1,
        max_value=MOST_USES,
        help_text=_(
            "Бонус, умноженный на число раз, входит в то, что вы двигаете за сутки без второго человека."
        ),
    )
    field_order = ["name", "code", "amount", "days", "first_day", "last_day", "uses_limit"]

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        amount, uses = data.get("amount"), data.get("uses_limit")
        if amount is not None and uses is not None and amount * uses > self.alone_micro_rub:
            self.add_error(
                "uses_limit",
                _("Всего это %(total)s, а ваша роль даёт без второго человека не больше %(most)s.")
                % {"total": shown_money(amount * uses), "most": shown_money(self.alone_micro_rub)},
            )
        return data

    def terms(self) -> CampaignTerms:
        data = self.cleaned_data
        last: date | None = data["last_day"]
        return CampaignTerms(
            amount_micro_rub=data["amount"],
            bonus_days=data["days"],
            valid_from=_begins(data["first_day"]),
            valid_until=_begins(last + timedelta(days=1)) if last is not None else None,
            uses_limit=data["uses_limit"],
        )


class MemberForm(ReasonForm):
    email = forms.EmailField(label=_("Почта клиента"), widget=_input("email"))
    organisation_id = forms.UUIDField(label=_("Номер организации"), widget=_input())
    field_order = ["email", "organisation_id"]

    def clean_email(self) -> str:
        email = str(self.cleaned_data["email"])
        if email.lower() == self.request.user.email:
            raise ValidationError(str(words.OFFERS_REFUSALS["own_wallet"]))
        return email


class ActivationForm(ReasonForm):
    email = forms.EmailField(label=_("Почта клиента"), widget=_input("email"))
    plan = forms.ChoiceField(label=_("Тариф"), widget=UnfoldAdminSelectWidget)
    automatic = forms.BooleanField(
        label=_("Продлевать автоматически"), required=False, widget=UnfoldBooleanSwitchWidget
    )
    field_order = ["email", "plan", "automatic"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offered = queries.offered(at=clock.now())
        self.fields["plan"].choices = [(version.plan_id, version.plan.name) for version in offered]

    def renewal(self) -> Subscription.Renewal:
        is_automatic = self.cleaned_data["automatic"]
        return Subscription.Renewal.AUTOMATIC if is_automatic else Subscription.Renewal.MANUAL

    def customer(self) -> User:
        """Raises UserNotFound."""
        found = User.objects.filter(email=self.cleaned_data["email"].lower()).first()
        if found is None:
            raise UserNotFound
        return found


class ExtensionForm(ReasonForm):
    days = CountField(label=_("Дней"), min_value=1, max_value=LONGEST_EXTENSION.days)
    field_order = ["days"]


def _begins(day: date) -> datetime:
    """A day's first moment in Moscow."""
    return make_aware(datetime.combine(day, time()))
