"""Buttons of operators' acts on limits: on pages of wallets and risks, of one limit, of the lists.

Each calls one act of `billing/limits.py` or `billing/request_rates.py` and tells the outcome.
"""

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from unfold.decorators import action

from billing import limits, policies, request_rates
from billing.act_buttons import MoneyActs
from billing.limit_forms import (
    LiftForm,
    LimitForm,
    LimitRowForm,
    RateForm,
    ReasonForm,
    SharedLimitForm,
    liftable,
)
from billing.limit_models import SpendingBlock, SpendLimit, Window
from plyrum import clock

REFUSALS: dict[str, Promise | str] = {
    "own_wallet": _("Со своим кошельком этого делать нельзя: попросите другого оператора."),
    "spending_already_blocked": _("Траты уже закрыты."),
    "spending_not_blocked": _("Траты не закрыты."),
    "not_found": _("Этого лимита больше нет, или его поставил сам клиент."),
    "validation_failed": _("Так нельзя: проверьте числа. В час должно быть не меньше, чем в минуту."),
}


class SpendingActs(MoneyActs):
    """For pages whose rows are named by the customer's id."""

    actions_detail = ["set_limit", "lift_limit", "block_spending", "unblock_spending"]

    def has_lift_permission(self, request: HttpRequest, object_id: str = "") -> bool:
        """Only where something can be lifted."""
        return bool(liftable(policies.of(self.id_from_path(object_id), now=clock.now())))

    def has_block_permission(self, request: HttpRequest, object_id: str = "") -> bool:
        return not self.has_unblock_permission(request, object_id)

    def has_unblock_permission(self, request: HttpRequest, object_id: str = "") -> bool:
        return SpendingBlock.objects.filter(customer_id=self.id_from_path(object_id), lifted_at=None).exists()

    @action(  # type: ignore[untyped-decorator]
        description=_("Лимит трат"),
        url_path="limit",
        icon="speed",
        permissions=["act"],
        dialog={
            "title": _("Поставить лимит трат"),
            "description": _("Заменит лимит оператора за это время. Меньший из лимитов действует."),
            "form_class": LimitForm,
            "form_submit_text": _("Поставить"),
        },
    )
    def set_limit(self, request: HttpRequest, form: LimitForm, object_id: str) -> HttpResponse:
        subject, given = limits.user_subject(self.id_from_path(object_id)), form.cleaned_data
        return self.perform(
            request,
            lambda now, actor: limits.set_limit(
                subject=subject,
                window=Window(given["window"]),
                limit_micro_rub=given["amount"],
                reason=given["reason"],
                now=now,
                actor=actor,
            ),
            done=_("Лимит поставлен."),
            refusals=REFUSALS,
            object_id=object_id,
        )

    @action(  # type: ignore[untyped-decorator]
        description=_("Снять лимит"),
        url_path="lift",
        icon="lock_open_right",
        permissions=["act", "lift"],
        dialog={
            "title": _("Снять лимит до конца окна"),
            "description": _("Счёт идёт дальше. С началом нового окна лимит снова действует."),
            "form_class": LiftForm,
            "form_submit_text": _("Снять"),
        },
    )
    def lift_limit(self, request: HttpRequest, form: LiftForm, object_id: str) -> HttpResponse:
        limit, reason = form.cleaned_data["limit"], form.cleaned_data["reason"]
        return self.perform(
            request,
            lambda now, actor: limits.lift(
                subject=limit.subject, window=limit.window, reason=reason, now=now, actor=actor
            ),
            done=_("Лимит снят до конца окна."),
            refusals=REFUSALS,
            object_id=object_id,
        )

    @action(  # type: ignore[untyped-decorator]
        description=_("Закрыть траты"),
        url_path="stop-spending",
        icon="money_off",
        permissions=["act", "block"],
        dialog={
            "title": _("Закрыть траты"),
            "description": _(
                "Новые запросы получат отказ. Идущие закончатся. Вход, пополнения и возвраты открыты."
            ),
            "form_class": ReasonForm,
            "form_submit_text": _("Закрыть"),
        },
    )
    def block_spending(self, request: HttpRequest, form: ReasonForm, object_id: str) -> HttpResponse:
        customer_id, reason = self.id_from_path(object_id), form.cleaned_data["reason"]
        return self.perform(
            request,
            lambda now, actor: limits.block(customer_id=customer_id, reason=reason, now=now, actor=actor),
            done=_("Траты закрыты."),
            refusals=REFUSALS,
            object_id=object_id,
        )

    @action(  # type: ignore[untyped-decorator]
        description=_("Открыть траты"),
        url_path="allow-spending",
        icon="attach_money",
        permissions=["act", "unblock"],
        dialog={
            "title": _("Открыть траты"),
            "description": _("Клиент снова сможет спрашивать."),
            "form_class": ReasonForm,
            "form_submit_text": _("Открыть"),
        },
    )
    def unblock_spending(self, request: HttpRequest, form: ReasonForm, object_id: str) -> HttpResponse:
        customer_id, reason = self.id_from_path(object_id), form.cleaned_data["reason"]
        return self.perform(
            request,
            lambda now, actor: limits.unblock(customer_id=customer_id, reason=reason, now=now, actor=actor),
            done=_("Траты открыты."),
            refusals=REFUSALS,
            object_id=object_id,
        )


class LimitActs(MoneyActs):
    """For the list and the pages of limits."""

    actions_list = ["set_shared_limit"]
    actions_detail = ["lift_this", "remove_limit"]

    def has_counted_permission(self, request: HttpRequest, object_id: str = "") -> bool:
        """A limit whose own counter can be lifted."""
        rows = SpendLimit.objects.filter(pk=self.id_from_path(object_id)).exclude(window=Window.REQUEST)
        own = Q(subject__startswith="user:") | Q(subject__startswith="key:")
        own |= Q(subject__startswith="organisation:") | Q(subject="gift:all")
        return rows.filter(own).exists()

    def has_operators_permission(self, request: HttpRequest, object_id: str = "") -> bool:
        """What a customer set is theirs."""
        return SpendLimit.objects.filter(
            pk=self.id_from_path(object_id), set_by=SpendLimit.SetBy.OPERATOR
        ).exists()

    @action(  # type: ignore[untyped-decorator]
        description=_("Общий лимит"),
        url_path="set-shared",
        icon="redeem",
        permissions=["act"],
        dialog={
            "title": _("Поставить общий лимит"),
            "description": _(
                "Для каждого такого клиента или для всех вместе. Остаток общего бюджета клиентам не показан."
            ),
            "form_class": SharedLimitForm,
            "form_submit_text": _("Поставить"),
        },
    )
    def set_shared_limit(self, request: HttpRequest, form: SharedLimitForm) -> HttpResponse:
        given = form.cleaned_data
        return self.perform(
            request,
            lambda now, actor: limits.set_limit(
                subject=given["subject"],
                window=Window(given["window"]),
                limit_micro_rub=given["amount"],
                reason=given["reason"],
                now=now,
                actor=actor,
            ),
            done=_("Лимит поставлен."),
            refusals=REFUSALS,
        )

    @action(  # type: ignore[untyped-decorator]
        description=_("Снять до конца окна"),
        url_path="lift",
        icon="lock_open_right",
        permissions=["act", "counted"],
        dialog={
            "title": _("Снять лимит до конца окна"),
            "description": _("Счёт идёт дальше. С началом нового окна лимит снова действует."),
            "form_class": LimitRowForm,
            "form_submit_text": _("Снять"),
        },
    )
    def lift_this(self, request: HttpRequest, form: LimitRowForm, object_id: str) -> HttpResponse:
        row, reason = SpendLimit.objects.get(pk=self.id_from_path(object_id)), form.cleaned_data["reason"]
        return self.perform(
            request,
            lambda now, actor: limits.lift(
                subject=row.subject, window=Window(row.window), reason=reason, now=now, actor=actor
            ),
            done=_("Лимит снят до конца окна."),
            refusals=REFUSALS,
            object_id=object_id,
        )

    @action(  # type: ignore[untyped-decorator]
        description=_("Убрать лимит"),
        url_path="remove",
        icon="delete",
        permissions=["act", "operators"],
        dialog={
            "title": _("Убрать лимит совсем"),
            "description": _("Если есть другой лимит за это время, останется он."),
            "form_class": LimitRowForm,
            "form_submit_text": _("Убрать"),
        },
    )
    def remove_limit(self, request: HttpRequest, form: LimitRowForm, object_id: str) -> HttpResponse:
        limit_id, reason = self.id_from_path(object_id), form.cleaned_data["reason"]
        return self.perform(
            request,
            lambda _now, actor: limits.remove_limit(limit_id=limit_id, reason=reason, actor=actor),
            done=_("Лимит убран."),
            refusals=REFUSALS,
        )


class RateActs(MoneyActs):
    actions_list = ["change_rate"]

    @action(  # type: ignore[untyped-decorator]
        description=_("Изменить"),
        url_path="change-rate",
        icon="speed",
        permissions=["act"],
        dialog={
            "title": _("Изменить частоту запросов"),
            "description": _("Действует со следующего запроса."),
            "form_class": RateForm,
            "form_submit_text": _("Изменить"),
        },
    )
    def change_rate(self, request: HttpRequest, form: RateForm) -> HttpResponse:
        given = form.cleaned_data
        return self.perform(
            request,
            lambda _now, actor: request_rates.change(
                tier=given["tier"],
                per_minute=given["per_minute"],
                per_hour=given["per_hour"],
                reason=given["reason"],
                actor=actor,
            ),
            done=_("Частота запросов изменена."),
            refusals=REFUSALS,
        )
