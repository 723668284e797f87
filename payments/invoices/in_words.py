"""Sums and dates as Russian documents write them: figures, words, months. Pure; never translated.

A document is Russian whatever language its reader chose on the site (legal guide 11).
"""

from datetime import date

from billing.shapes import MICRO_PER_KOPECK

NO_BREAK = "\u00a0"
_ONES = (
    ("", "один", "два", "три", "четыре", "пять", "шесть", "семь", "восемь", "девять"),
    ("", "одна", "две", "три", "четыре", "пять", "шесть", "семь", "восемь", "девять"),
)
_TEENS = (
    "десять", "одиннадцать", "двенадцать", "тринадцать", "четырнадцать", "пятнадцать", "шестнадцать",
    "семнадцать", "восемнадцать", "девятнадцать",
)  # fmt: skip
_TENS = (
    "", "", "двадцать", "тридцать", "сорок", "пятьдесят", "шестьдесят", "семьдесят", "восемьдесят",
    "девяносто",
)  # fmt: skip
_HUNDREDS = (
    "", "сто", "двести", "триста", "четыреста", "пятьсот", "шестьсот", "семьсот", "восемьсот", "девятьсот",
)  # fmt: skip
# One, two to four, many; thousands are feminine.
_ROUBLES = ("рубль", "рубля", "рублей")
_KOPECKS = ("копейка", "копейки", "копеек")
_GROUPS = (
    ("миллиард", "миллиарда", "миллиардов"),
    ("миллион", "миллиона", "миллионов"),
    ("тысяча", "тысячи", "тысяч"),
)
_MONTHS_OF = (
    "января", "февраля", "марта", "апреля", "мая", "июня", "июля", "августа", "сентября", "октября", "ноября",
    "декабря",
)  # fmt: skip
_MONTHS = (
    "январь", "февраль", "март", "апрель", "май", "июнь", "июль", "август", "сентябрь", "октябрь", "ноябрь",
    "декабрь",
)  # fmt: skip


def kopecks(micro_rub: int) -> int:
    """Whole kopecks. Raises ValueError when the sum is not whole kopecks: a document never rounds."""
    whole, rest = divmod(micro_rub, MICRO_PER_KOPECK)
    if rest:
        raise ValueError("a document names whole kopecks only")
    return whole


def figures(micro_rub: int) -> str:
    """ "12 345,60", with no-break spaces."""
    roubles, rest = divmod(kopecks(abs(micro_rub)), 100)
    sign = "−" if micro_rub < 0 else ""
    return f"{sign}{roubles:,}".replace(",", NO_BREAK) + f",{rest:02d}"


def words(micro_rub: int) -> str:
    """ "Двенадцать тысяч триста сорок пять рублей 60 копеек"; below a thousand billion roubles."""
    roubles, rest = divmod(kopecks(micro_rub), 100)
    text = f"{_number(roubles)} {_form(roubles, _ROUBLES)} {rest:02d} {_form(rest, _KOPECKS)}"
    return text[0].upper() + text[1:]


def percent(rate_bp: int) -> str:
    """ "22", "5,5"."""
    whole, rest = divmod(rate_bp, 100)
    return f"{whole}" + (f",{rest:02d}".rstrip("0") if rest else "")


def long_date(day: date) -> str:
    """ "20 ноября 2026 г."."""
    return f"{day.day} {_MONTHS_OF[day.month - 1]} {day.year}{NO_BREAK}г."


def month(day: date) -> str:
    """ "ноябрь 2026 г."."""
    return f"{_MONTHS[day.month - 1]} {day.year}{NO_BREAK}г."


def _number(whole: int) -> str:
    if whole == 0:
        return "ноль"
    parts = []
    for place, group in enumerate(_GROUPS):
        size = 1_000 ** (len(_GROUPS) - place)
        count = whole // size % 1_000
        if count:
            is_feminine = place == len(_GROUPS) - 1
            parts += [_below_thousand(count, is_feminine=is_feminine), _form(count, group)]
    parts.append(_below_thousand(whole % 1_000, is_feminine=False))
    return " ".join(part for part in parts if part)


def _below_thousand(count: int, *, is_feminine: bool) -> str:
    hundreds, rest = divmod(count, 100)
    tens, ones = divmod(rest, 10)
    small = [_TEENS[ones]] if tens == 1 else [_TENS[tens], _ONES[is_feminine][ones]]
    return " ".join(part for part in (_HUNDREDS[hundreds], *small) if part)


def _form(count: int, forms: tuple[str, str, str]) -> str:
    if 11 <= count % 100 <= 14:
        return forms[2]
    return forms[{1: 0, 2: 1, 3: 1, 4: 1}.get(count % 10, 2)]
