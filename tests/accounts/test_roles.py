from uuid import UUID

import pytest
from pytest_django import Settings

from accounts import roles
from accounts.models import User
from plyrum.ids import uuid7

APPS = sorted(roles.EVERYTHING)


@pytest.mark.parametrize("role", roles.Role.values)
@pytest.mark.parametrize("app", APPS)
def test_nobody_may_delete(role: str, app: str) -> None:
    assert not roles.allows(role, f"{app}.delete_thing")


@pytest.mark.parametrize("app", APPS)
def test_customer_sees_nothing_of_the_back_office(app: str) -> None:
    assert not roles.allows("", f"{app}.view_thing")
    assert not roles.allows("", f"{app}.change_thing")
    assert not roles.opens("", app)


@pytest.mark.parametrize("role", [role for role in roles.Role.values if role])
def test_who_may_change_may_also_look(role: str) -> None:
    assert roles.MAY_CHANGE[role] <= roles.MAY_VIEW[role]


@pytest.mark.parametrize(
    ("role", "permission", "is_allowed"),
    [
        ("support", "accounts.view_user", True),
        ("support", "accounts.change_user", False),
        ("support", "payments.change_payment", False),
        ("support", "auditlog.view_auditevent", False),
        ("finance", "payments.change_payment", True),
        ("finance", "accounts.change_user", False),
        ("catalogue", "orchestration.change_model", True),
        ("catalogue", "payments.view_payment", False),
        ("security", "accounts.change_user", True),
        ("security", "billing.change_wallet", False),
        ("owner", "legal.add_documentversion", True),
        ("nonsense", "accounts.view_user", False),
        ("owner", "auth.view_group", False),
    ],
)
def test_matrix(role: str, permission: str, is_allowed: bool) -> None:
    assert roles.allows(role, permission) is is_allowed


def test_staff_works_in_its_role() -> None:
    assert roles.working_role(user_id=uuid7(), is_staff=True, role="finance") == "finance"


def test_role_without_staff_means_nothing() -> None:
    assert roles.working_role(user_id=uuid7(), is_staff=False, role="owner") == ""


def test_person_named_in_the_settings_is_an_owner(settings: Settings) -> None:
    named = uuid7()
    settings.PLYRUM_ADMIN_USER_IDS = frozenset({str(named)})

    assert roles.working_role(user_id=named, is_staff=False, role="") == "owner"
    assert roles.working_role(user_id=UUID(int=1), is_staff=False, role="") == ""


def test_blocked_operator_has_no_permission() -> None:
    operator = User(email="x@example.test", is_staff=True, role="owner")
    assert operator.has_perms(["accounts.view_user", "billing.view_wallet"])
    assert operator.has_module_perms("accounts")

    operator.is_active = False

    assert not operator.has_perm("accounts.view_user")
    assert not operator.has_module_perms("accounts")
