"""Who sells: our own requisites, out of the settings. Used for every document and by the launch check.

Development fills what is empty with made-up requisites whose check digits are right and which nobody can own:
no region 99, no bank 99.
"""

from django.conf import settings

from payments.invoices import requisites
from payments.invoices.errors import InvoicesNotConfigured
from payments.invoices.requisites import Party, Words

MADE_UP = {
    "name": "ООО «Выдуманный продавец»",
    "inn": "9900000000",
    "kpp": "990001001",
    "address": "990000, г. Выдуманный, ул. Проверочная, д. 1",
    "bank_name": "АО «Выдуманный банк»",
    "bic": "049999999",
    "account": "40702810600000000001",
    "correspondent_account": "30101810300000000999",
    "signatory": "Выдуманов В. В.",
}
# Which setting each field comes from, for the launch check and the documentation.
VARIABLES = {
    "name": "PLYRUM_SELLER_LEGAL_NAME",
    "inn": "PLYRUM_SELLER_TAX_ID",
    "kpp": "PLYRUM_SELLER_KPP",
    "address": "PLYRUM_SELLER_REGISTERED_ADDRESS",
    "bank_name": "PLYRUM_SELLER_BANK_NAME",
    "bic": "PLYRUM_SELLER_BIC",
    "account": "PLYRUM_SELLER_ACCOUNT",
    "correspondent_account": "PLYRUM_SELLER_CORRESPONDENT_ACCOUNT",
    "signatory": "PLYRUM_SELLER_SIGNATORY",
}


def party() -> Party:
    """The seller as documents name it. Raises InvoicesNotConfigured while something is missing or wrong."""
    found = named()
    if faults(found):
        raise InvoicesNotConfigured
    return found


def is_configured() -> bool:
    return not faults(named())


def named() -> Party:
    """What the settings say; in development the made-up requisites where a number is missing."""
    given = {name: str(settings.SELLER.get(name, "")) for name in VARIABLES}
    if not settings.IS_PRODUCTION and not (given["inn"] and given["account"]):
        given = MADE_UP
    return Party.of(given)


def faults(party: Party) -> dict[str, Words]:
    """As `requisites.faults`, but the bank must be there."""
    found = {name: fault for name, fault in requisites.bank_faults(party).items() if fault is not None}
    return requisites.faults(party) | found
