"""How much one operator may move, by their role: in one act, and alone within a day.

The settings name an owner's amounts; `accounts.roles` says what part of them other roles have. Whatever an
operator moves is one sum, whichever app keeps the act: the setting MOVED_ALONE names who counts it.
"""

from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.utils.module_loading import import_string

from accounts import roles
from accounts.models import User
from billing import money
from billing.errors import OperatorLimitExceeded

ALONE_FOR = timedelta(days=1)


def most(role: str) -> int:
    """Micro-RUB of one act whose amount the operator chooses."""
    return _part(role, settings.PLYRUM_ADMIN_CREDIT_MAX_RUB)


def alone(role: str) -> int:
    """Micro-RUB that an operator moves within ALONE_FOR without a second person."""
    return _part(role, settings.PLYRUM_ADMIN_APPROVAL_ABOVE_RUB)


def require_within(amount_micro_rub: int, *, operator_id: UUID) -> None:
    """Raises OperatorLimitExceeded."""
    role = _role(User.objects.filter(pk=operator_id).first())
    if abs(amount_micro_rub) > most(role):
        raise OperatorLimitExceeded(role=role, limit_micro_rub=most(role))


def needs_second_person(amount_micro_rub: int, *, operator_id: UUID, now: datetime) -> bool:
    """Whether they would move more than their role may alone: a sum in parts is that sum.

    Acts of one operator count one after another, behind the lock of their own row.
    """
    operator = User.objects.select_for_update(no_key=True).filter(pk=operator_id).first()
    moved = sum(import_string(path)(operator_id, since=now - ALONE_FOR) for path in settings.MOVED_ALONE)
    return bool(moved + abs(amount_micro_rub) > alone(_role(operator)))


def require_alone(amount_micro_rub: int, *, operator_id: UUID, now: datetime) -> None:
    """For what no second person can approve: it has to fit into what is left of ALONE_FOR.

    Raises OperatorLimitExceeded.
    """
    if needs_second_person(amount_micro_rub, operator_id=operator_id, now=now):
        _refuse(operator_id)


def require_each(amount_micro_rub: int, *, operator_id: UUID) -> None:
    """For an amount that is given many times: each is at most `alone`. Raises OperatorLimitExceeded."""
    if amount_micro_rub > alone(_role(User.objects.filter(pk=operator_id).first())):
        _refuse(operator_id)


def _refuse(operator_id: UUID) -> None:
    role = _role(User.objects.filter(pk=operator_id).first())
    raise OperatorLimitExceeded(
        "More than this role may move without a second person.", role=role, limit_micro_rub=alone(role)
    )


def _role(operator: User | None) -> str:
    return operator.operator_role if operator is not None else roles.Role.NONE


def _part(role: str, rub: int) -> int:
    return money.from_rub(rub) * roles.MONEY_PERCENT.get(role, 0) // 100
