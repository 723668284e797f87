"""Words of the back office about operators' acts: what was done, what waits, why not. Reads only."""

from datetime import datetime

from django.utils.formats import localize
from django.utils.functional import Promise
from django.utils.timezone import localtime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.models import User
from billing import allowances
from billing.acts import Asked
from billing.models import OperatorRequest
from billing.templatetags.money import money as shown_money
from billing.templatetags.money import money_exact

# By the code of the error.
REFUSALS: dict[str, Promise | str] = {
    "own_wallet": gettext_lazy("Со своим кошельком этого делать нельзя: попросите другого оператора."),
    "second_person_required": gettext_lazy("Решить должен другой человек, не тот, кто просил."),
    "insufficient_balance": gettext_lazy("На балансе меньше, чем нужно списать."),
    "reserved_in_flight": gettext_lazy("Деньги в резерве идущих ответов. Повторите, когда они закончатся."),
    "already_reversed": gettext_lazy("Это списание уже отменено."),
    "charge_not_found": gettext_lazy("За этот запуск ничего не списано: отменять нечего."),
    "already_disputed": gettext_lazy("Этот спор уже проведён."),
    "ledger_conflict": gettext_lazy("Спор с этим номером уже проведён с другими данными."),
    "hold_closed": gettext_lazy("Резерв уже закрыт."),
    "hold_in_use": gettext_lazy("Запуск ещё идёт: резерв снимется сам, когда он закончится."),
    "operator_request_closed": gettext_lazy("Запрос уже решён, или его срок истёк."),
    "operator_request_changed": gettext_lazy("Запрос не тот, что был показан. Откройте его заново."),
    "operator_limit_exceeded": gettext_lazy("Это больше, чем вашей роли можно за раз."),
    "idempotency_mismatch": gettext_lazy("Эта форма уже отправлена с другими данными. Откройте её заново."),
}


def limits(role: str) -> list[tuple[str, str]]:
    """The most of one act of this role, and above what a second person decides."""
    return [
        (_("Не больше за раз"), shown_money(allowances.most(role))),
        (_("Без второго человека за сутки до"), shown_money(allowances.alone(role))),
    ]


def said(asked: Asked) -> str:
    """What has become of an act that was asked for."""
    request = asked.request
    if request.state == OperatorRequest.State.WAITING:
        return _("Запрос записан и ждёт второго человека. Деньги пока не двигались.")
    if request.kind == OperatorRequest.Kind.RELEASE:
        return _("Резерв снят.")
    amount = request.amount_micro_rub
    if request.kind == OperatorRequest.Kind.REVERSAL:
        return _("Списание отменено, клиенту вернулось %(amount)s.") % {"amount": money_exact(amount)}
    if request.kind == OperatorRequest.Kind.CHARGEBACK:
        return _("Опротестование на %(amount)s проведено.") % {"amount": money_exact(-amount)}
    if amount < 0:
        return _("Списано %(amount)s.") % {"amount": money_exact(-amount)}
    return _("Начислено %(amount)s.") % {"amount": money_exact(amount)}


def amount(request: OperatorRequest) -> str:
    """Signed, as the customer will see it; of a release what it gives back to spend."""
    if request.kind == OperatorRequest.Kind.RELEASE:
        return money_exact(int(request.parameters["held_micro_rub"]))
    sign = "+" if request.amount_micro_rub > 0 else ""
    return sign + money_exact(request.amount_micro_rub)


def end(request: OperatorRequest) -> str:
    """Until when a bonus can be spent, "" when that is no question."""
    given = request.parameters.get("expires_at")
    return str(localize(localtime(datetime.fromisoformat(given)))) if given else ""


def facts(request: OperatorRequest) -> list[tuple[str, str]]:
    """Everything the second person decides about."""
    emails = dict(
        User.objects.filter(pk__in=[request.customer_id, request.maker_id]).values_list("pk", "email")
    )
    rows = [
        (_("Что"), str(request.get_kind_display())),
        (_("Сумма"), amount(request)),
        (_("Действует до"), end(request)),
        (_("Запуск"), request.parameters.get("run_id", "")),
        (_("Пополнение"), request.parameters.get("payment_id", "")),
        (_("Номер спора"), request.parameters.get("dispute_id", "")),
        (_("Клиент"), emails.get(request.customer_id, str(request.customer_id))),
        (_("Просит"), emails.get(request.maker_id, str(request.maker_id))),
        (_("Причина"), request.reason),
        (_("Обращение"), request.ticket),
    ]
    return [(name, value) for name, value in rows if value]
