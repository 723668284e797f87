"""The published test cards and what a card number means for a payment.

Called by `hosted` and the index page. Source: the project's payments reference, section 4 (YooKassa test
mode).
"""

import re
from dataclasses import dataclass

SUCCESS = {
    "5555555555554477": "Mastercard, 3-D Secure",
    "5555555555554444": "Mastercard",
    "4793128161644804": "Visa, 3-D Secure",
    "4111111111111111": "Visa",
    "2200000000000004": "Мир, 3-D Secure",
    "2202474301322987": "Мир",
    "6759649826438453": "Maestro",
    "370000000000002": "American Express",
    "3528000700000000": "JCB",
}
# reason: cards of Mastercard, Visa and Mir
DECLINES: tuple[tuple[str, str, tuple[str, str, str]], ...] = (
    ("3d_secure_failed", "payment_network", ("5555555555554592", "4839665499603842", "2200000000000012")),
    ("call_issuer", "payment_network", ("5555555555554535", "4926946416239025", "2200000000000020")),
    ("card_expired", "payment_network", ("5555555555554543", "4141435412630840", "2200000000000038")),
    ("fraud_suspected", "payment_network", ("5555555555554568", "4483274282299972", "2200000000000046")),
    ("general_decline", "payment_network", ("5555555555554527", "4889971706588753", "2202202212312379")),
    ("insufficient_funds", "payment_network", ("5555555555554600", "4562265587712390", "2200000000000053")),
    ("invalid_card_number", "payment_network", ("5555555555554618", "4951017853630544", "2201382000000013")),
    ("invalid_csc", "payment_network", ("5555555555554626", "4194180666146368", "2200770212727079")),
    ("issuer_unavailable", "payment_network", ("5555555555554501", "4654130848359150", "2201382000000021")),
    (
        "payment_method_limit_exceeded",
        "payment_network",
        ("5555555555554576", "4565231022577548", "2201382000000039"),
    ),
    (
        "payment_method_restricted",
        "payment_network",
        ("5555555555554550", "4233961169071671", "2201382000000047"),
    ),
    ("country_forbidden", "yoo_money", ("5555555555554584", "4969751510013864", "2201382000000054")),
    ("fraud_suspected", "yoo_money", ("5555555555554634", "4119098878796485", "2201696981989955")),
)
DECLINED_CARDS = {number: (reason, party) for reason, party, numbers in DECLINES for number in numbers}
UNKNOWN_CARD = ("general_decline", "payment_network")
EXPIRY = re.compile(r"(0[1-9]|1[0-2])\s*/?\s*(?:20)?(\d{2})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Card:
    """A card as it was typed, already checked."""

    number: str
    expiry_month: str
    expiry_year: str

    @property
    def is_accepted(self) -> bool:
        return self.number in SUCCESS

    @property
    def has_3d_secure(self) -> bool:
        return "3-D Secure" in SUCCESS.get(self.number, "")

    @property
    def decline(self) -> tuple[str, str]:
        """Reason and party; a card outside the tables is declined without a particular reason."""
        return DECLINED_CARDS.get(self.number, UNKNOWN_CARD)

    @property
    def network(self) -> str:
        return network(self.number)


class CardError(Exception):
    """Fields that the form must show again: name of the field to its message."""

    def __init__(self, problems: dict[str, str]) -> None:
        super().__init__(", ".join(problems))
        self.problems = problems


def read(number: str, expiry: str, csc: str, *, year: int, month: int) -> Card:
    """Check what was typed against today's year and month. Raises CardError naming each bad field."""
    digits = re.sub(r"[\s-]", "", number)
    problems: dict[str, str] = {}
    if not re.fullmatch(r"\d{13,19}", digits, re.ASCII) or not _has_check_digit(digits):
        problems["number"] = "Проверьте номер карты: в нём опечатка."
    match = EXPIRY.fullmatch(expiry.strip())
    if match is None:
        problems["expiry"] = "Укажите месяц и год, например 12 / 30."
    elif (2000 + int(match[2]), int(match[1])) < (year, month):
        problems["expiry"] = "Срок карты прошёл. Любая будущая дата подойдёт."
    if not re.fullmatch(r"\d{3,4}", csc.strip(), re.ASCII):
        problems["csc"] = "Код состоит из трёх цифр, у American Express из четырёх."
    if problems or match is None:
        raise CardError(problems)
    return Card(number=digits, expiry_month=match[1], expiry_year=f"20{match[2]}")


def network(number: str) -> str:
    """Name the payment network by the first digits."""
    if number[:1] == "4":
        return "Visa"
    if "2200" <= number[:4] <= "2204":
        return "Mir"
    if number[:2] in {"34", "37"}:
        return "AmericanExpress"
    if number[:2] == "35":
        return "JCB"
    if number[:2] in {"50", "56", "57", "58"} or number[:1] == "6":
        return "Maestro"
    return "MasterCard"


def _has_check_digit(digits: str) -> bool:
    """Luhn: double every second digit from the right."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0
