"""The rates that the sandbox's central bank has set, and the faults that tests put on its next answers.

Written by the control API, read by `daily`. Memory only.
"""

import re
from dataclasses import dataclass
from datetime import date, timedelta

# What each fault makes of the next answer.
FAULTS = {
    "down": "503 и страница вместо списка",
    "redirect": "переадресация на другой адрес",
    "garbage": "страница вместо списка, с кодом 200",
    "huge": "список на два мегабайта",
    "old-date": "список месячной давности",
    "future-date": "список послезавтрашнего дня",
    "jump": "все курсы выше вдвое",
    "zero": "все курсы равны нулю",
    "missing": "список без единой валюты",
}
VALUE = re.compile(r"\d{1,9},\d{4}")


@dataclass(frozen=True, slots=True)
class Rate:
    """Roubles for `nominal` units, as the bank writes them: "95,1234"."""

    name: str
    nominal: int
    value: str


class Rates:
    """Rates by code of the currency, the same on every day; `faults` wait for the next answers, in order."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.by_code = {
            "USD": Rate("Доллар США", 1, "95,1234"),
            "EUR": Rate("Евро", 1, "103,4567"),
            "CNY": Rate("Юань", 1, "13,2109"),
            "JPY": Rate("Иен", 100, "63,0512"),
        }

    def set(self, code: str, value: str, nominal: int) -> None:
        """Raises ValueError for what the bank would not write."""
        if not re.fullmatch(r"[A-Z]{3}", code) or not VALUE.fullmatch(value) or nominal < 1:
            raise ValueError("a rate is a code, roubles with a comma and four decimals, and a nominal")
        self.by_code[code] = Rate(code, nominal, value)

    def spoil(self, fault: str, times: int) -> None:
        """Raises ValueError for an unknown fault."""
        if fault not in FAULTS:
            raise ValueError(f"fault is one of {', '.join(FAULTS)}")
        self.faults += [fault] * times


def set_on(day: date) -> date:
    """The day of the list that is in force on `day`: none is set for Sundays and Mondays."""
    return day - timedelta(days={6: 1, 0: 2}.get(day.weekday(), 0))
