"""Buttons of operators' acts on the back office's pages of wallets, holds, requests and runs.

Each opens a form that says what will happen, calls one act of `billing/acts.py` and tells the outcome.
"""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _
from unfold.decorators import action

from auditlog.admin import OperatorActs
from billing import acts, queries, words
from billing.acts import Asked
from billing.forms import (
    ActForm,
    AmountForm,
    ApprovalForm,
    BonusForm,
    DisputeForm,
    RefusalForm,
    ReleaseForm,
    ReversalForm,
)
from billing.models import Hold, OperatorRequest


class MoneyActs(OperatorActs):
    """Acts of money belong to the roles that change money, on whichever page their button stands."""

    def has_act_permission(self, request: HttpRequest, object_id: str = "") -> bool:
        return bool(request.user.has_perm("billing.change_wallet"))

    def ask(self, form: ActForm, object_id: str, act: Callable[[], Asked]) -> HttpResponse:
        return self.perform(
            form.request, lambda *_: act(), done=words.said, refusals=words.REFUSALS, object_id=object_id
        )


class WalletActs(MoneyActs):
    actions_detail = ["give_money", "take_money", "give_bonus", "charge_back"]

    @action(  # type: ignore[untyped-decorator]
        description=_("Начислить"),
        url_path="give",
        icon="add",
        permissions=["act"],
        dialog={
            "title": _("Начислить деньги"),
            "description": _("Корректировка в пользу клиента: деньги без срока, тратятся раньше бонусов."),
            "form_class": AmountForm,
            "form_submit_text": _("Начислить"),
        },
    )
    def give_money(self, request: HttpRequest, form: AmountForm, object_id: str) -> HttpResponse:
        customer_id, amount = self.id_from_path(object_id), form.cleaned_data["amount"]
        return self.ask(
            form,
            object_id,
            lambda: acts.credit(customer_id=customer_id, amount_micro_rub=amount, asking=form.asking()),
        )

    @action(  # type: ignore[untyped-decorator]
        description=_("Списать"),
        url_path="take",
        icon="remove",
        permissions=["act"],
        dialog={
            "title": _("Списать деньги"),
            "description": _("Корректировка не в пользу клиента: берётся только то, что не в резерве."),
            "form_class": AmountForm,
            "form_submit_text": _("Списать"),
        },
    )
    def take_money(self, request: HttpRequest, form: AmountForm, object_id: str) -> HttpResponse:
        customer_id, amount = self.id_from_path(object_id), form.cleaned_data["amount"]
        return self.ask(
            form,
            object_id,
            lambda: acts.adjust(customer_id=customer_id, amount_micro_rub=-amount, asking=form.asking()),
        )

    @action(  # type: ignore[untyped-decorator]
        description=_("Дать бонус"),
        url_path="bonus",
        icon="redeem",
        permissions=["act"],
        dialog={
            "title": _("Дать бонус"),
            "description": _("Бонус тратится после оплаченных денег и не возвращается на карту."),
            "form_class": BonusForm,
            "form_submit_text": _("Дать бонус"),
        },
    )
    def give_bonus(self, request: HttpRequest, form: BonusForm, object_id: str) -> HttpResponse:
        customer_id, amount = self.id_from_path(object_id), form.cleaned_data["amount"]
        return self.ask(
            form,
            object_id,
            lambda: acts.give_bonus(
                customer_id=customer_id,
                amount_micro_rub=amount,
                expires_at=form.expires_at(),
                asking=form.asking(),
            ),
        )

    @action(  # type: ignore[untyped-decorator]
        description=_("Опротестование"),
        url_path="dispute",
        icon="gavel",
        permissions=["act"],
        dialog={
            "title": _("Провести опротестование"),
            "description": _("Банк забрал платёж. Чего не хватит на балансе, станет долгом клиента."),
            "form_class": DisputeForm,
            "form_submit_text": _("Провести"),
        },
    )
    def charge_back(self, request: HttpRequest, form: DisputeForm, object_id: str) -> HttpResponse:
        customer_id, given = self.id_from_path(object_id), form.cleaned_data
        return self.ask(
            form,
            object_id,
            lambda: acts.charge_back(
                customer_id=customer_id,
                payment_id=given["payment_id"],
                dispute_id=given["dispute_id"],
                amount_micro_rub=given["amount"],
                asking=form.asking(),
            ),
        )


class HoldActs(MoneyActs):
    actions_detail = ["release"]

    def has_open_permission(self, request: HttpRequest, object_id: str = "") -> bool:
        """The button that would change nothing is not shown."""
        return Hold.objects.filter(pk=self.id_from_path(object_id), status=Hold.Status.OPEN).exists()

    @action(  # type: ignore[untyped-decorator]
        description=_("Снять резерв"),
        url_path="release",
        icon="lock_open",
        permissions=["act", "open"],
        dialog={
            "title": _("Снять резерв"),
            "description": _("Только если запуск закончился, а резерв остался. Ничего не списывается."),
            "form_class": ReleaseForm,
            "form_submit_text": _("Снять резерв"),
        },
    )
    def release(self, request: HttpRequest, form: ReleaseForm, object_id: str) -> HttpResponse:
        hold_id = self.id_from_path(object_id)
        return self.ask(form, object_id, lambda: acts.release_hold(hold_id=hold_id, asking=form.asking()))


class RunActs(MoneyActs):
    """For the page of runs, which belongs to an app above."""

    actions_detail = ["reverse_charge"]

    def has_charge_permission(self, request: HttpRequest, object_id: str = "") -> bool:
        """Only where something was charged and not taken back."""
        charge = queries.charge_of_run(self.id_from_path(object_id))
        return charge is not None and queries.reversal_of(charge.id) is None

    @action(  # type: ignore[untyped-decorator]
        description=_("Отменить списание"),
        url_path="reverse",
        icon="undo",
        permissions=["act", "charge"],
        dialog={
            "title": _("Отменить списание за ответ"),
            "description": _("Вся сумма вернётся туда, откуда взята. Ответ останется у клиента."),
            "form_class": ReversalForm,
            "form_submit_text": _("Отменить списание"),
        },
    )
    def reverse_charge(self, request: HttpRequest, form: ReversalForm, object_id: str) -> HttpResponse:
        run_id = self.id_from_path(object_id)
        return self.ask(form, object_id, lambda: acts.reverse_run(run_id=run_id, asking=form.asking()))


class RequestActs(MoneyActs):
    actions_detail = ["approve_request", "refuse_request"]

    def has_decide_permission(self, request: HttpRequest, object_id: str = "") -> bool:
        """Somebody else's request that waits."""
        waiting = OperatorRequest.objects.filter(
            pk=self.id_from_path(object_id), state=OperatorRequest.State.WAITING
        )
        return waiting.exclude(maker_id=self.id_from_path(str(request.user.pk))).exists()

    @action(  # type: ignore[untyped-decorator]
        description=_("Одобрить"),
        url_path="approve",
        icon="check",
        permissions=["act", "decide"],
        dialog={
            "title": _("Одобрить и выполнить"),
            "description": _("Деньги сдвинутся сразу и ровно так, как здесь написано."),
            "form_class": ApprovalForm,
            "form_submit_text": _("Одобрить"),
        },
    )
    def approve_request(self, request: HttpRequest, form: ApprovalForm, object_id: str) -> HttpResponse:
        request_id, sha256 = self.id_from_path(object_id), form.cleaned_data["sha256"]
        return self.perform(
            request,
            lambda now, actor: acts.approve(request_id=request_id, sha256=sha256, now=now, actor=actor),
            done=_("Одобрено и выполнено."),
            refusals=words.REFUSALS,
            object_id=object_id,
        )

    @action(  # type: ignore[untyped-decorator]
        description=_("Отклонить"),
        url_path="refuse",
        icon="close",
        permissions=["act", "decide"],
        dialog={
            "title": _("Отклонить запрос"),
            "description": _("Деньги не сдвинутся. Тот, кто просил, увидит вашу причину."),
            "form_class": RefusalForm,
            "form_submit_text": _("Отклонить"),
        },
    )
    def refuse_request(self, request: HttpRequest, form: RefusalForm, object_id: str) -> HttpResponse:
        request_id, reason = self.id_from_path(object_id), form.cleaned_data["reason"]
        return self.perform(
            request,
            lambda now, actor: acts.refuse(request_id=request_id, reason=reason, now=now, actor=actor),
            done=_("Запрос отклонён."),
            refusals=words.REFUSALS,
            object_id=object_id,
        )
