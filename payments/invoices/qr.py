"""The QR of a payment order, ГОСТ Р 56042-2014: requisites for bank apps, not a payment by itself. Pure.

Source: payments guide 5.3. UTF-8 gives the header ST00012 and the separator behind it.
"""

import segno

from payments.invoices import in_words
from payments.invoices.models import Invoice
from payments.invoices.requisites import Party

HEADER = "ST00012"
SEPARATORS = "|~^;#$&*"  # the first that no value contains
MANDATORY_BYTES = 300  # of the first five fields, without the header

Matrix = tuple[tuple[bool, ...], ...]


def text(invoice: Invoice) -> str:
    """The string inside the QR of an invoice. Raises ValueError when the requisites do not fit the format."""
    seller, buyer = Party.of(invoice.seller), Party.of(invoice.buyer)
    mandatory = {
        "Name": _cut(seller.name, _room_for_name(seller)),
        "PersonalAcc": seller.account,
        "BankName": seller.bank_name[:45],
        "BIC": seller.bic,
        "CorrespAcc": seller.correspondent_account or "0",
    }
    others = {
        "Sum": str(in_words.kopecks(invoice.amount_micro_rub)),
        "Purpose": invoice.purpose[:210],
        "PayeeINN": seller.inn,
        "KPP": seller.kpp,
        "PayerINN": buyer.inn,
    }
    values = mandatory | {name: value for name, value in others.items() if value}
    separator = next((one for one in SEPARATORS if one not in "".join(values.values())), None)
    if separator is None:
        raise ValueError("no separator is left for these requisites")
    return HEADER + separator + separator.join(f"{name}={value}" for name, value in values.items())


def matrix(content: str) -> Matrix:
    """Modules of the symbol, True is dark, without the quiet zone. Error correction M."""
    symbol = segno.make(content.encode(), error="m", mode="byte", micro=False, boost_error=False)
    return tuple(tuple(bool(module) for module in row) for row in symbol.matrix)


def svg_path(modules: Matrix) -> str:
    """An SVG path with one unit a module, row by row in runs of dark."""
    parts = []
    for y, row in enumerate(modules):
        x = 0
        while x < len(row):
            start = x
            while x < len(row) and row[x]:
                x += 1
            if x > start:
                parts.append(f"M{start} {y}h{x - start}v1h-{x - start}z")
            x += 1
    return "".join(parts)


def _room_for_name(seller: Party) -> int:
    """Bytes of the mandatory block that are left for the name."""
    fixed = "Name=|PersonalAcc=|BankName=|BIC=|CorrespAcc=" + seller.account + seller.bank_name[:45]
    fixed += seller.bic + (seller.correspondent_account or "0")
    return MANDATORY_BYTES - len(fixed.encode())


def _cut(text: str, most_bytes: int) -> str:
    """A name of 160 Cyrillic characters alone is longer than the block: it is cut between characters."""
    return text[:160].encode()[:most_bytes].decode(errors="ignore").rstrip()
