"""Russian requisites and their check digits, so that no bank bounces a transfer for a typing error. Pure.

Source: payments guide 5.2; the order 515 of the Bank of Russia (1997) for accounts, the tax service's rules
for INN and OGRN. Wrong requisites are told by words for people; correct ones by None.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

Words = Promise | str

FIRM_INN, TRADER_INN = 10, 12  # digits: an organisation, a sole trader
_INN_10 = (2, 4, 10, 3, 5, 9, 4, 6, 8)
_INN_11 = (7, 2, 4, 10, 3, 5, 9, 4, 6, 8)
_INN_12 = (3, 7, 2, 4, 10, 3, 5, 9, 4, 6, 8)
_ACCOUNT = (7, 1, 3)
_KPP = re.compile(r"[0-9]{4}[0-9A-Z]{2}[0-9]{3}")
_BIC = re.compile(r"0[0-9]{8}")

NAME_CHARS = 160  # ST00012 takes no longer name of a payee
ADDRESS_CHARS = 250
BANK_NAME_CHARS = 45  # as ST00012 takes it


@dataclass(frozen=True, slots=True)
class Party:
    """One side of a document. Only name, INN, KPP (of a firm) and address are always there."""

    name: str
    inn: str
    kpp: str = ""
    ogrn: str = ""
    address: str = ""
    bank_name: str = ""
    bic: str = ""
    account: str = ""
    correspondent_account: str = ""
    signatory: str = ""

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Self:
        """Back from a document's snapshot."""
        return cls(**{field.name: str(facts.get(field.name, "")) for field in fields(cls)})

    def as_dict(self) -> dict[str, str]:
        return asdict(self)

    @property
    def is_trader(self) -> bool:
        """A sole trader: has no KPP."""
        return len(self.inn) == TRADER_INN


def faults(party: Party) -> dict[str, Words]:
    """What is wrong, by the name of the field; empty when all is right. The bank may be left out whole."""
    found: dict[str, Words | None] = {
        "name": None if 2 <= len(party.name) <= NAME_CHARS else _("Укажите название, до 160 знаков."),
        "inn": inn_fault(party.inn),
        "kpp": kpp_fault(party.kpp, inn=party.inn),
        "ogrn": ogrn_fault(party.ogrn, inn=party.inn) if party.ogrn else None,
        "address": None if 5 <= len(party.address) <= ADDRESS_CHARS else _("Укажите адрес, до 250 знаков."),
    }
    bank = (party.bank_name, party.bic, party.account, party.correspondent_account)
    if any(bank):
        found |= bank_faults(party)
    return {name: fault for name, fault in found.items() if fault is not None}


def bank_faults(party: Party) -> dict[str, Words | None]:
    """The same for the bank details, which then must all be there."""
    is_named = 2 <= len(party.bank_name) <= BANK_NAME_CHARS
    return {
        "bank_name": None if is_named else _("Укажите банк, до 45 знаков."),
        "bic": bic_fault(party.bic),
        "account": account_fault(party.account, bic=party.bic),
        "correspondent_account": correspondent_fault(party.correspondent_account, bic=party.bic),
    }


def inn_fault(inn: str) -> Words | None:
    if not _is_number(inn, FIRM_INN, TRADER_INN):
        return _("ИНН — 10 цифр у организации, 12 у предпринимателя.")
    digits = [int(digit) for digit in inn]
    if len(inn) == FIRM_INN:
        is_right = _weighed(digits, _INN_10) == digits[9]
    else:
        is_right = [_weighed(digits, _INN_11), _weighed(digits, _INN_12)] == digits[10:]
    return None if is_right else _("В ИНН опечатка: контрольная цифра не сходится.")


def kpp_fault(kpp: str, *, inn: str) -> Words | None:
    if len(inn) == TRADER_INN:
        return _("У предпринимателя нет КПП: оставьте поле пустым.") if kpp else None
    return None if _KPP.fullmatch(kpp) else _("КПП — 9 знаков, как в карточке организации.")


def ogrn_fault(ogrn: str, *, inn: str) -> Words | None:
    """13 digits of a firm by the modulus 11, 15 of a sole trader by 13; the last one is the check digit."""
    length, modulus = (15, 13) if len(inn) == TRADER_INN else (13, 11)
    if not _is_number(ogrn, length):
        return _("ОГРН — 13 цифр у организации, ОГРНИП — 15 у предпринимателя.")
    is_right = int(ogrn[:-1]) % modulus % 10 == int(ogrn[-1])
    return None if is_right else _("В ОГРН опечатка: контрольная цифра не сходится.")


def bic_fault(bic: str) -> Words | None:
    return None if _BIC.fullmatch(bic) else _("БИК — 9 цифр, первая 0.")


def account_fault(account: str, *, bic: str) -> Words | None:
    """A settlement account with its key for this bank.

    Accounts in treasury bodies, which begin with 0, follow other rules: they are not refused.
    """
    if not _is_number(account, 20):
        return _("Расчётный счёт — 20 цифр.")
    if account.startswith("0") or bic_fault(bic) is not None or _key_fits(bic[-3:] + account):
        return None
    return _("Расчётный счёт не подходит к БИК: проверьте оба.")


def correspondent_fault(account: str, *, bic: str) -> Words | None:
    if not _is_number(account, 20) or not account.startswith("301"):
        return _("Корреспондентский счёт — 20 цифр, первые 301.")
    if bic_fault(bic) is not None or _key_fits("0" + bic[4:6] + account):
        return None
    return _("Корреспондентский счёт не подходит к БИК: проверьте оба.")


def tidy(text: str) -> str:
    """As people paste it: without spaces and dashes between digits."""
    return re.sub(r"[\s\u00a0-]", "", text)


def _is_number(text: str, *lengths: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) in lengths


def _weighed(digits: Sequence[int], weights: Sequence[int]) -> int:
    return sum(digit * weight for digit, weight in zip(digits, weights, strict=False)) % 11 % 10


def _key_fits(digits: str) -> bool:
    """The last digits of the products with 7, 1, 3, 7, 1, 3 ... add up to a whole ten."""
    return sum(int(digit) * _ACCOUNT[place % 3] % 10 for place, digit in enumerate(digits)) % 10 == 0
