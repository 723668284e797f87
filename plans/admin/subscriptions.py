"""Back office of subscriptions: how each stands, its periods and its timeline, and what operators may do."""

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from unfold.admin import TabularInline
from unfold.decorators import action, display

from accounts.people import CustomerByEmail, customer_words
from auditlog.actors import Actor
from auditlog.admin import OperatorActs, ReadOnlyAdmin
from billing.admin.base import link
from billing.templatetags.money import money_exact
from plans import subscriptions, words
from plans.admin.forms import ActivationForm, ExtensionForm, ReasonForm
from plans.admin.offers import ReadOnlyRows
from plans.models import Purchase, Subscription, SubscriptionMove, SubscriptionPeriod
from plans.subscriptions import Asking


class MoveRows(ReadOnlyRows):
    model = SubscriptionMove
    fields = ["created_at", "kind", "state", "reason"]
    readonly_fields = fields
    ordering = ["-id"]
    per_page = 50


class PeriodRows(ReadOnlyRows):
    model = SubscriptionPeriod
    fields = ["starts_at", "ends_at", "price", "images_used", "image_quota", "carried", "closed_at"]
    readonly_fields = fields
    ordering = ["-starts_at"]
    per_page = 50
    show_change_link = True

    @display(description=_("Цена"))  # type: ignore[untyped-decorator]
    def price(self, period: SubscriptionPeriod) -> str:
        return money_exact(period.price_micro_rub)

    @display(description=_("Перенесено"))  # type: ignore[untyped-decorator]
    def carried(self, period: SubscriptionPeriod) -> str:
        return money_exact(period.carried_micro_rub)


@admin.register(Subscription)
class SubscriptionAdmin(CustomerByEmail, OperatorActs, ReadOnlyAdmin):
    list_display = ["created_at", "customer", "plan", "condition", "renewal", "period_end", "due_at"]
    list_filter = ["state", "renewal", "cancel_at_period_end", "plan", "created_at"]
    list_select_related = ["plan"]
    search_fields = ["id__exact", "customer_id__exact"]
    ordering = ["-id"]
    nothing_yet = _("Подписка появляется, когда клиент подключает тариф.")
    fields = [
        "id",
        "customer",
        "plan",
        "next_plan",
        "state",
        "renewal",
        "cancel_at_period_end",
        "anchor",
        "period_start",
        "period_end",
        "waits_until",
        "past_due_at",
        "due_at",
        "created_at",
    ]
    readonly_fields = fields
    inlines: ClassVar[list[type[TabularInline]]] = [PeriodRows, MoveRows]
    actions_list = ["activate_for"]
    actions_detail = ["renew_for", "extend_for", "cancel_for"]

    @display(description=_("Клиент"), ordering="customer_id")  # type: ignore[untyped-decorator]
    def customer(self, subscription: Subscription) -> SafeString:
        return link(
            "accounts_user", subscription.customer_id, customer_words(subscription, subscription.customer_id)
        )

    @display(  # type: ignore[untyped-decorator]
        description=_("Состояние"),
        ordering="state",
        label={
            "active": "success",
            "past_due": "warning",
            "suspended": "danger",
            "canceled": "info",
            "expired": "info",
        },
    )
    def condition(self, subscription: Subscription) -> tuple[str, str]:
        return subscription.state, subscription.get_state_display()

    def has_going_permission(self, request: HttpRequest, object_id: str = "") -> bool:
        """The button that would change nothing is not shown."""
        return Subscription.objects.going().filter(pk=self.id_from_path(object_id)).exists()

    @action(  # type: ignore[untyped-decorator]
        description=_("Подключить клиенту"),
        url_path="activate",
        icon="add",
        permissions=["act"],
        dialog={
            "title": _("Подключить тариф клиенту"),
            "description": _("Цена спишется с его пополненных денег, период начнётся сейчас."),
            "form_class": ActivationForm,
            "form_submit_text": _("Подключить"),
        },
    )
    def activate_for(self, request: HttpRequest, form: ActivationForm) -> HttpResponse:
        return self.perform(
            request,
            lambda now, actor: subscriptions.activate(
                customer_id=form.customer().id,
                plan_code=form.cleaned_data["plan"],
                renewal=form.renewal(),
                asking=_asking(form, now, actor),
            ),
            done=_("Тариф подключён."),
            refusals=words.OPERATORS_REFUSALS,
        )

    @action(  # type: ignore[untyped-decorator]
        description=_("Оплатить период"),
        url_path="renew",
        icon="autorenew",
        permissions=["act", "going"],
        dialog={
            "title": _("Оплатить следующий период"),
            "description": _("Цена спишется с пополненных денег клиента."),
            "form_class": ReasonForm,
            "form_submit_text": _("Оплатить"),
        },
    )
    def renew_for(self, request: HttpRequest, form: ReasonForm, object_id: str) -> HttpResponse:
        customer_id = self._customer(object_id)
        return self._perform(
            request,
            object_id,
            lambda now, actor: subscriptions.renew(customer_id=customer_id, asking=_asking(form, now, actor)),
            done=_("Период оплачен."),
        )

    @action(  # type: ignore[untyped-decorator]
        description=_("Продолжить период"),
        url_path="extend",
        icon="more_time",
        permissions=["act", "going"],
        dialog={
            "title": _("Продолжить текущий период"),
            "description": _("Бесплатно. Остаток начисления доживёт до нового конца, дальше всё сдвинется."),
            "form_class": ExtensionForm,
            "form_submit_text": _("Продолжить"),
        },
    )
    def extend_for(self, request: HttpRequest, form: ExtensionForm, object_id: str) -> HttpResponse:
        customer_id, days = self._customer(object_id), form.cleaned_data["days"]
        return self._perform(
            request,
            object_id,
            lambda now, actor: subscriptions.extend(
                customer_id=customer_id, days=days, asking=_asking(form, now, actor)
            ),
            done=_("Период продолжен."),
        )

    @action(  # type: ignore[untyped-decorator]
        description=_("Отменить"),
        url_path="cancel",
        icon="cancel",
        permissions=["act", "going"],
        dialog={
            "title": _("Отменить подписку клиента"),
            "description": _("Оплаченное остаётся до конца периода; неоплаченная закончится сразу."),
            "form_class": ReasonForm,
            "form_submit_text": _("Отменить подписку"),
        },
    )
    def cancel_for(self, request: HttpRequest, form: ReasonForm, object_id: str) -> HttpResponse:
        customer_id = self._customer(object_id)
        return self._perform(
            request,
            object_id,
            lambda now, actor: subscriptions.cancel(
                customer_id=customer_id, asking=_asking(form, now, actor)
            ),
            done=_("Подписка отменена."),
        )

    def _perform(self, request: HttpRequest, object_id: str, act: Any, *, done: Any) -> HttpResponse:
        refusals = words.OPERATORS_REFUSALS
        return self.perform(request, act, done=done, refusals=refusals, object_id=object_id)

    def _customer(self, object_id: str) -> UUID:
        return get_object_or_404(Subscription, pk=self.id_from_path(object_id)).customer_id


class PurchaseRows(ReadOnlyRows):
    model = Purchase
    fields = ["number", "version", "price", "grant", "purchase_entry_id", "grant_entry_id", "created_at"]
    readonly_fields = fields
    ordering = ["number"]

    @display(description=_("Уплачено"))  # type: ignore[untyped-decorator]
    def price(self, purchase: Purchase) -> str:
        return money_exact(purchase.price_micro_rub)

    @display(description=_("Начислено"))  # type: ignore[untyped-decorator]
    def grant(self, purchase: Purchase) -> str:
        return money_exact(purchase.grant_micro_rub)


@admin.register(SubscriptionPeriod)
class SubscriptionPeriodAdmin(CustomerByEmail, ReadOnlyAdmin):
    list_display = [
        "starts_at",
        "ends_at",
        "customer",
        "version",
        "images_used",
        "image_quota",
        "closed_at",
    ]
    list_filter = ["version__plan", "starts_at"]
    list_select_related = ["version"]
    search_fields = ["id__exact", "customer_id__exact"]
    ordering = ["-starts_at", "-id"]
    nothing_yet = _("Период появляется с оплатой тарифа.")
    fields = ["id", "subscription", *list_display, "carried"]
    readonly_fields = fields
    inlines: ClassVar[list[type[TabularInline]]] = [PurchaseRows]

    @display(description=_("Клиент"), ordering="customer_id")  # type: ignore[untyped-decorator]
    def customer(self, period: SubscriptionPeriod) -> SafeString:
        return link("accounts_user", period.customer_id, customer_words(period, period.customer_id))

    @display(description=_("Перенесено"))  # type: ignore[untyped-decorator]
    def carried(self, period: SubscriptionPeriod) -> str:
        return money_exact(period.carried_micro_rub)


def _asking(form: ReasonForm, now: datetime, actor: Actor) -> Asking:
    return Asking(key=f"operator:{form.cleaned_data['key']}", now=now, actor=actor, reason=form.reason_given)
