"""Roles of operators and what each may see, change and move of money. Pure, the only such table.

Used by `User.has_perm` (admin) and by the operator API. Nobody may delete: money, audit and legal rows stay.
"""

from uuid import UUID

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _


class Role(models.TextChoices):
    NONE = "", _("нет")
    SUPPORT = "support", _("поддержка")
    FINANCE = "finance", _("финансы")
    CATALOGUE = "catalogue", _("каталог")
    SECURITY = "security", _("безопасность")
    OWNER = "owner", _("владелец")


EVERYTHING = frozenset(
    {"accounts", "billing", "plans", "payments", "orchestration", "playground", "auditlog", "legal"}
)
MAY_VIEW: dict[str, frozenset[str]] = {
    Role.SUPPORT: frozenset({"accounts", "billing", "plans", "payments", "orchestration", "legal"}),
    Role.FINANCE: frozenset(
        {"accounts", "billing", "plans", "payments", "orchestration", "legal", "auditlog"}
    ),
    Role.CATALOGUE: frozenset({"orchestration", "billing", "legal"}),
    Role.SECURITY: EVERYTHING,
    Role.OWNER: EVERYTHING,
}
MAY_CHANGE: dict[str, frozenset[str]] = {
    Role.SUPPORT: frozenset(),
    Role.FINANCE: frozenset({"billing", "plans", "payments"}),
    Role.CATALOGUE: frozenset({"orchestration"}),
    Role.SECURITY: frozenset({"accounts"}),
    Role.OWNER: EVERYTHING,
}
# Part of what the settings allow an owner to move; a role that is not here moves nothing.
MONEY_PERCENT: dict[str, int] = {Role.SUPPORT: 1, Role.FINANCE: 50, Role.OWNER: 100}


def working_role(*, user_id: UUID, is_staff: bool, role: str) -> str:
    """The role somebody works in, "" for a customer: staff by their role, the settings' ids as owners."""
    if is_staff and role:
        return role
    return Role.OWNER if str(user_id) in settings.PLYRUM_ADMIN_USER_IDS else Role.NONE


def allows(role: str, permission: str) -> bool:
    """`permission` as Django names it: "billing.view_wallet"."""
    app, _dot, name = permission.partition(".")
    if name.startswith("view_"):
        return app in MAY_VIEW.get(role, frozenset())
    if name.startswith("delete_"):
        return False
    return app in MAY_CHANGE.get(role, frozenset())


def who_change(app: str) -> frozenset[str]:
    """The roles that may change rows of `app`, for a view's `operator_roles`."""
    return frozenset(role for role, apps in MAY_CHANGE.items() if app in apps)


def opens(role: str, app: str) -> bool:
    return app in MAY_VIEW.get(role, frozenset())
