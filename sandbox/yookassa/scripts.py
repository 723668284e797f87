"""Scripted misbehaviour of the shop: which call or notification goes wrong, how, for whom and how often.

Filled by the control API, asked by `api` and `notifications`. A rule with a `match` touches only the payments
it names, so that tests running side by side do not disturb each other.
"""

from dataclasses import dataclass, field
from itertools import count
from typing import Any

from sandbox.yookassa.shapes import Json, Payment, money

KINDS = frozenset({"webhook", "create", "refund", "read"})
CALL_EFFECTS = frozenset(
    {
        "500",
        "500_after_execution",
        "503_html",
        "429",
        "slow",
        "timeout_after_execution",
        "cut_after_execution",
        "not_found",
    }
)
WEBHOOK_EFFECTS = frozenset({"drop", "hold", "delay_seconds", "duplicate", "garbage"})
MATCHES = frozenset(
    {"payment_id", "description", "metadata", "merchant_customer_id", "amount", "receipt_email"}
)


@dataclass(slots=True)
class Rule:
    """One scripted effect; `times` counts down to 0, None means for ever."""

    id: int
    kind: str
    effect: Any
    match: Json = field(default_factory=dict)
    times: int | None = 1


class Scripts:
    """The rules in force, oldest first. Kept in memory only."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []
        self._ids = count(1)

    def add(self, *, kind: str, effect: Any, match: Json, times: int | None) -> Rule:
        """Put a rule in force. Raises ValueError for what nobody would ever apply."""
        if not isinstance(match, dict) or not set(match) <= MATCHES:
            raise ValueError(f"match takes {sorted(MATCHES)}")
        if not isinstance(match.get("metadata", {}), dict):
            raise ValueError("match.metadata takes an object")
        if kind == "webhook":
            if not isinstance(effect, dict) or not effect or not set(effect) <= WEBHOOK_EFFECTS:
                raise ValueError(f"next_webhooks takes an object of {sorted(WEBHOOK_EFFECTS)}")
        elif effect not in CALL_EFFECTS:
            raise ValueError(f"next_{kind} takes one of {sorted(CALL_EFFECTS)}")
        rule = Rule(id=next(self._ids), kind=kind, effect=effect, match=match, times=times)
        self.rules.append(rule)
        return rule

    def clear(self) -> None:
        self.rules.clear()

    def take(self, kind: str, facts: Json) -> Any:
        """Answer the effect of the first rule that fits, used up once; None when all is ordinary."""
        for rule in self.rules:
            if rule.kind == kind and _fits(rule.match, facts):
                if rule.times is not None:
                    rule.times -= 1
                    if rule.times <= 0:
                        self.rules.remove(rule)
                return rule.effect
        return None


def facts_of(payment: Payment) -> Json:
    """What a rule can be matched against, of a stored payment."""
    return {
        "payment_id": payment.id,
        "description": payment.description or "",
        "metadata": payment.metadata,
        "merchant_customer_id": payment.merchant_customer_id,
        "amount": money(payment.amount_kopecks)["value"],
        "receipt_email": _email(payment.receipt),
    }


def facts_of_request(body: Json) -> Json:
    """The same, of an unchecked request body."""
    amount = body.get("amount")
    return {
        "payment_id": body.get("payment_id"),
        "description": body.get("description") or "",
        "metadata": body.get("metadata") or {},
        "merchant_customer_id": body.get("merchant_customer_id"),
        "amount": amount.get("value") if isinstance(amount, dict) else None,
        "receipt_email": _email(body.get("receipt")),
    }


def _email(receipt: Any) -> str | None:
    customer = receipt.get("customer") if isinstance(receipt, dict) else None
    email = customer.get("email") if isinstance(customer, dict) else None
    return email if isinstance(email, str) else None


def _fits(match: Json, facts: Json) -> bool:
    for name, wanted in match.items():
        found = facts.get(name)
        if name == "description":
            if str(wanted) not in str(found):
                return False
        elif name == "metadata":
            if not isinstance(found, dict) or any(found.get(key) != value for key, value in wanted.items()):
                return False
        elif found != wanted:
            return False
    return True
