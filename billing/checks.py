"""Launch checks of money: each names what is wrong and the exact remedy. Run by `check --deploy`.

Those that read rows run when databases are named: `check --deploy --database default`.
"""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

from billing import queries, verification
from billing.limit_models import SpendLimit
from billing.models import CreditLot, LotKind, PriceVersion
from plyrum import clock

TAG = "launch"
# Checks of the verification that say whether the database itself refuses wrong money.
GUARDS = ("V20", "V21", "V22", "V37")


@register(TAG, deploy=True)
def runs_need_money(**_: Any) -> list[CheckMessage]:
    if settings.PLYRUM_BILLING_ENFORCE_BALANCE or not settings.IS_PRODUCTION:
        return []
    return [
        Error(
            "Runs start without money on the balance.",
            hint="Unset PLYRUM_BILLING_ENFORCE_BALANCE.",
            id="billing.E001",
        )
    ]


@register(TAG, deploy=True)
def database_guards_money(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Append-only triggers, constraints and narrow rights are what keeps every other promise."""
    if not databases:
        return []
    return [
        Error(
            f"{finding.title}: {finding.object}: {finding.detail}.",
            hint="Run `manage.py migrate` as the owner of the tables, then `manage.py verify_ledger`.",
            id="billing.E002",
        )
        for finding in verification.verify(wallets=[], only=GUARDS).findings
    ]


@register(TAG, deploy=True)
def prices_can_be_computed(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """A currency without a rate, or with an old one, makes its models unsellable."""
    if not databases:
        return []
    rates, fresh = queries.current_rates(), queries.fresh_rates(now=clock.now())
    found: list[CheckMessage] = []
    prices = PriceVersion.objects.exclude(currency="RUB").order_by("currency")
    for currency in prices.values_list("currency", flat=True).distinct():
        rate = rates.get(currency)
        if rate is None:
            found.append(
                Error(
                    f"{currency} has no rate.",
                    hint="Name it in PLYRUM_FX_CURRENCIES and let the worker run billing.refresh_rates.",
                    id="billing.E003",
                )
            )
        elif currency not in fresh:
            found.append(
                Error(
                    f"The rate of {currency} is of {rate.rate_date}: nothing is sold by it.",
                    hint="See why billing.refresh_rates fails, or load a rate by PLYRUM_FX_SNAPSHOT_PATH.",
                    id="billing.E004",
                )
            )
    return found


@register(TAG, deploy=True)
def gifts_have_a_budget(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Who gives money away says how much of it may be spent: gifts draw those who collect accounts."""
    if not databases or SpendLimit.objects.filter(subject="gift:all").exists():
        return []
    if not CreditLot.objects.filter(kind=LotKind.BONUS, is_spent=False).exists():
        return []
    return [
        Warning(
            "There is gift money in wallets, and no common budget bounds what it may cost.",
            hint="Set a limit for gift:all in the back office, on the page of spending limits.",
            id="billing.W001",
        )
    ]
