"""Words of the plan's page: what an act has done, why it was refused, what comes next. Reads only."""

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from billing.templatetags.money import money
from plans.models import Subscription
from plans.shapes import Standing
from plyrum.errors import PlyrumError

State = Subscription.State

DONE: dict[str, Promise | str] = {
    "activate": gettext_lazy("Тариф подключён, начисление уже на балансе."),
    "renew": gettext_lazy("Следующий период оплачен."),
    "change": gettext_lazy("Тариф выбран."),
    "renewal": gettext_lazy("Способ продления сохранён."),
    "cancel": gettext_lazy("Подписка отменена. Оплаченное остаётся до конца периода."),
    "resume": gettext_lazy("Отмена снята, подписка продолжается."),
}
# By the code of the error.
REFUSALS: dict[str, Promise | str] = {
    "reserved_in_flight": gettext_lazy("Деньги в резерве идущих ответов. Повторите, когда они закончатся."),
    "spending_blocked": gettext_lazy("Траты на этом аккаунте остановлены. Напишите в поддержку."),
    "debt_outstanding": gettext_lazy(
        "Банк отозвал платёж, и на аккаунте долг. Пополните баланс, чтобы погасить."
    ),
    "plan_not_found": gettext_lazy("Этот тариф больше не продаётся."),
    "already_subscribed": gettext_lazy("Тариф уже подключён."),
    "not_subscribed": gettext_lazy("Подписка закончилась. Выберите тариф."),
    "subscription_not_paid": gettext_lazy("Сначала оплатите текущий период."),
    "period_paid_ahead": gettext_lazy("Следующий период уже оплачен: сменить тариф можно после его начала."),
    "plan_unchanged": gettext_lazy("Этот тариф уже выбран."),
    "price_changed": gettext_lazy("Цена изменилась, пока страница была открыта. Проверьте её и повторите."),
    "period_changed": gettext_lazy("Этот период уже оплачен или прошёл. Проверьте даты и повторите."),
    "idempotency_mismatch": gettext_lazy("Эта форма уже отправлена с другими данными. Обновите страницу."),
    "own_wallet": gettext_lazy("Операторы не активируют промокоды."),
    "promo_code_unknown": gettext_lazy("Такого промокода нет. Проверьте буквы и цифры."),
    "promo_code_over": gettext_lazy("Промокод закончился."),
    "promo_code_used": gettext_lazy("Вы уже использовали этот промокод."),
    "rate_limited": gettext_lazy("Слишком много попыток. Попробуйте через час."),
}
# To operators, who act for somebody else.
OPERATORS_REFUSALS: dict[str, Promise | str] = {
    **REFUSALS,
    "insufficient_balance": gettext_lazy("У клиента меньше пополненных денег, чем нужно."),
    "spending_blocked": gettext_lazy("Траты клиента остановлены."),
    "debt_outstanding": gettext_lazy("У клиента долг по отозванному платежу."),
    "not_found": gettext_lazy("Клиента с такой почтой нет."),
    "own_wallet": gettext_lazy("Со своей подпиской этого делать нельзя: попросите другого оператора."),
    "not_subscribed": gettext_lazy("Подписка закончилась."),
    "already_subscribed": gettext_lazy("У клиента уже есть тариф."),
}
OFFERS_REFUSALS: dict[str, Promise | str] = {
    "validation_failed": gettext_lazy("Условия не сходятся. Проверьте код, суммы и дни."),
    "operator_limit_exceeded": gettext_lazy(
        "Это больше, чем вы ещё можете раздать за сутки без второго человека. Уменьшите бонус или число раз."
    ),
    "own_wallet": gettext_lazy("Себе цену организации не дают: попросите другого оператора."),
    "not_found": gettext_lazy("Клиента с такой почтой нет."),
}


def refusal(error: PlyrumError) -> str:
    """Why an act did nothing, and what to do."""
    if error.code == "insufficient_balance":
        facts = {
            "paid": money(error.extra["balance_micro_rub"]),
            "price": money(error.extra["needed_micro_rub"]),
        }
        return (
            _("Тариф оплачивается пополненными деньгами: их %(paid)s, нужно %(price)s. Пополните баланс.")
            % facts
        )
    return str(REFUSALS.get(error.code, error.detail))


def what_then(standing: Standing) -> str:
    """What happens when the paid time is over."""
    found, price = standing.subscription, money(standing.next_price_micro_rub)
    if standing.state == State.PAST_DUE:
        return _(
            "На продление нужно %(price)s. Попробуем ещё раз в ближайшие дни, оплатить можно и сейчас."
        ) % {"price": price}
    if standing.state == State.SUSPENDED:
        return _("Подписка приостановлена. Оплатите %(price)s, чтобы продолжить.") % {"price": price}
    if found.cancel_at_period_end:
        return _("Подписка закончится, деньги не спишутся.")
    if found.renewal == Subscription.Renewal.AUTOMATIC:
        return _("Спишем %(price)s с баланса и начнём новый период.") % {"price": price}
    return _("Тариф закончится. Чтобы продолжить, оплатите следующий период: %(price)s.") % {"price": price}
