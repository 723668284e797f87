"""Launch check of invoices: the seller's requisites have right check digits and are not made up."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.utils import translation

from payments.invoices import seller


@register(Tags.security, deploy=True)
def seller_can_be_paid(**_: Any) -> list[CheckMessage]:
    """A wrong digit would send the firms' money elsewhere; without a bank account no invoice is issued."""
    named = seller.named()
    with translation.override("en"):
        faults = {name: str(fault) for name, fault in seller.faults(named).items()}
    if not named.account:
        hint = "Set PLYRUM_SELLER_ACCOUNT and the variables beside it, or leave firms to cards."
        return [Warning("The seller has no bank account: no invoices.", hint=hint, id="payments.W020")]
    if settings.IS_PRODUCTION and named.inn == seller.MADE_UP["inn"]:
        faults["inn"] = "These are the made-up requisites of development."
    return [
        Error(f"{seller.VARIABLES[name]}: {fault}", hint=f"Set {seller.VARIABLES[name]}.", id="payments.E020")
        for name, fault in faults.items()
    ]
