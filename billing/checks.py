"""Launch checks of money: each names what is wrong and the exact remedy. Run by `check --deploy`.

Those that read rows run when databases are named: `check --deploy --database default`.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

from billing import queries, verification
from billing.models import PriceVersion
from plyrum import clock

TAG = "launch"
RATE_IS_OLD = timedelta(days=4)  # none is published at weekends
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
    """A currency without a rate makes its models unsellable; an old rate may sell below cost."""
    if not databases:
        return []
    rates, now = queries.current_rates(), clock.now()
    found: list[CheckMessage] = []
    prices = PriceVersion.objects.exclude(currency="RUB").order_by("currency")
    for currency in prices.values_list("currency", flat=True).distinct():
        rate = rates.get(currency)
        if rate is None:
            found.append(
                Error(
                    f"{currency} has no rate.", hint="Load it by PLYRUM_FX_SNAPSHOT_PATH.", id="billing.E003"
                )
            )
        elif now.date() - rate.rate_date > RATE_IS_OLD:
            found.append(
                Warning(
                    f"The rate of {currency} is of {rate.rate_date}.",
                    hint="Put a newer rate into the file of PLYRUM_FX_SNAPSHOT_PATH and load the catalogue.",
                    id="billing.W001",
                )
            )
    return found
