"""The menu of the back office, for the setting UNFOLD: groups by job, and the pages of each.

Every list that an operator may want to open stands here; rows that belong to another page (the lots of a
wallet, the attempts of a run) are reached from there. Whoever may not view a page does not see its entry.
"""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.urls import reverse_lazy
from django.utils.translation import gettext_lazy as _


def _page(title: Any, icon: str, model: str) -> dict[str, Any]:
    """`model` as the admin's addresses name it: <app>_<model>."""
    address = reverse_lazy(f"admin:{model}_changelist")
    return {"title": title, "icon": icon, "link": address, "permission": _may_view(model)}


def _may_view(model: str) -> Callable[[HttpRequest], bool]:
    app, _underscore, name = model.partition("_")
    return lambda request: request.user.has_perm(f"{app}.view_{name}")


def _group(title: Any, *pages: dict[str, Any]) -> dict[str, Any]:
    return {"title": title, "items": list(pages)}


NAVIGATION = [
    _group(
        _("Люди и деньги"),
        _page(_("Клиенты"), "group", "accounts_user"),
        _page(_("Сессии API"), "devices", "accounts_refreshfamily"),
        _page(_("Ключи API"), "key", "accounts_apikey"),
        _page(_("Кошельки"), "account_balance_wallet", "billing_wallet"),
        _page(_("Проводки"), "receipt_long", "billing_ledgerentry"),
        _page(_("Резервы"), "lock_clock", "billing_hold"),
        _page(_("Пополнения"), "payments", "payments_payment"),
        _page(_("Уведомления ЮKassa"), "inbox", "payments_webhookevent"),
        _page(_("Запросы операторов"), "approval_delegation", "billing_operatorrequest"),
        _page(_("Письма клиентам"), "mail", "accounts_notice"),
    ),
    _group(
        _("Тарифы и бонусы"),
        _page(_("Подписки"), "autorenew", "plans_subscription"),
        _page(_("Тарифы"), "layers", "plans_plan"),
        _page(_("Пакеты пополнения"), "add_card", "plans_pack"),
        _page(_("Кампании"), "campaign", "plans_campaign"),
        _page(_("Участники организаций"), "badge", "plans_organisationmember"),
    ),
    _group(
        _("Счета и УПД"),
        _page(_("Организации"), "apartment", "payments_organisation"),
        _page(_("Счета"), "request_quote", "payments_invoice"),
        _page(_("Выписки банка"), "upload_file", "payments_bankstatement"),
        _page(_("Банковские строки"), "account_balance", "payments_bankline"),
        _page(_("Решения о строках"), "rule", "payments_bankdecision"),
        _page(_("Закрывающие документы"), "description", "payments_closingdocument"),
    ),
    _group(
        _("Лимиты и сверка"),
        _page(_("Себестоимость"), "monitoring", "billing_costday"),
        _page(_("Риск клиентов"), "warning", "billing_customerrisk"),
        _page(_("Лимиты трат"), "speed", "billing_spendlimit"),
        _page(_("Снятые лимиты"), "lock_open_right", "billing_limitlift"),
        _page(_("Запреты трат"), "money_off", "billing_spendingblock"),
        _page(_("Частота запросов"), "timer", "billing_requestrate"),
        _page(_("Находки сверки"), "fact_check", "billing_reconciliationfinding"),
        _page(_("Корни дней"), "fingerprint", "billing_dailyroot"),
        _page(_("Предупреждения об остатке"), "notifications", "billing_balancealert"),
    ),
    _group(
        _("Модели"),
        _page(_("Запуски"), "route", "orchestration_run"),
        _page(_("Использование"), "data_usage", "billing_usageevent"),
        _page(_("Модели"), "smart_toy", "orchestration_model"),
        _page(_("Версии каталога"), "history", "orchestration_catalogueversion"),
        _page(_("Провайдеры"), "dns", "orchestration_provider"),
        _page(_("Цены"), "sell", "billing_priceversion"),
        _page(_("Курсы"), "currency_ruble", "billing_fxrate"),
        _page(_("Ставки НДС"), "percent", "billing_vatrate"),
    ),
    _group(
        _("Порядок"),
        _page(_("Аудит"), "policy", "auditlog_auditevent"),
        _page(_("Задания"), "schedule", "auditlog_jobrun"),
        _page(_("Документы"), "gavel", "legal_documentversion"),
        _page(_("Принятия"), "handshake", "legal_acceptance"),
    ),
]
