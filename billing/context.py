"""What the page frame shows of money: the balance, asked of the database only when a page shows it."""

from collections.abc import Callable
from functools import cache

from django.http import HttpRequest

from accounts.credentials import is_superaccount
from billing import queries
from plyrum import clock


def balance(request: HttpRequest) -> dict[str, Callable[[], object]]:
    """`balance_micro_rub` (None for visitors) and `unlimited`, as functions: templates call what they use."""

    @cache
    def spendable() -> int | None:
        user = getattr(request, "user", None)
        if user is None or not user.is_authenticated:
            return None
        return queries.balance(user.pk, now=clock.now()).balance_micro_rub

    @cache
    def is_unlimited() -> bool:
        user = getattr(request, "user", None)
        return user is not None and user.is_authenticated and is_superaccount(user.pk)

    return {"balance_micro_rub": spendable, "unlimited": is_unlimited}
