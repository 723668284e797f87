from uuid import UUID

import pytest
from django.test import Client
from pytest_django import Settings

from accounts import credentials, superaccount
from accounts.models import User
from auditlog.models import AuditEvent
from plyrum.ids import uuid7
from tests import factories
from tests.accounts.conftest import Post

SECRET = "plyrum-dev-superaccount"


@pytest.fixture
def superuser(settings: Settings) -> UUID:
    """The superaccount switched on, with an id and an address of this test's own."""
    user_id = uuid7()
    settings.PLYRUM_DEV_SUPERACCOUNT_ENABLED = True
    settings.PLYRUM_DEV_SUPERACCOUNT_USER_ID = str(user_id)
    settings.PLYRUM_DEV_SUPERACCOUNT_EMAIL = factories.unique_email("dev")
    settings.PLYRUM_DEV_SUPERACCOUNT_PASSWORD = SECRET
    return user_id


def test_first_sign_in_makes_the_superaccount(
    superuser: UUID, post: Post, client: Client, settings: Settings
) -> None:
    answer = post("/api/auth/login", {"email": settings.PLYRUM_DEV_SUPERACCOUNT_EMAIL, "password": SECRET})

    assert answer.status_code == 200
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    account = client.get("/api/account", headers=headers).json()
    assert account["id"] == str(superuser)
    assert (account["unlimited"], account["is_operator"], account["role"]) == (True, True, "owner")
    assert account["missing_acceptances"] == []
    assert client.get("/api/audit", {"limit": 1}, headers=headers).status_code == 200


def test_making_it_twice_changes_nothing(superuser: UUID) -> None:
    first = superaccount.ensure_dev_superaccount()
    second = superaccount.ensure_dev_superaccount()

    assert first == second
    assert AuditEvent.objects.filter(target_user_id=superuser).count() == 2  # made, offer accepted


def test_password_and_address_follow_the_settings(superuser: UUID, post: Post, settings: Settings) -> None:
    superaccount.ensure_dev_superaccount()
    settings.PLYRUM_DEV_SUPERACCOUNT_PASSWORD = "another-dev-password"
    settings.PLYRUM_DEV_SUPERACCOUNT_EMAIL = factories.unique_email("dev")
    email = settings.PLYRUM_DEV_SUPERACCOUNT_EMAIL

    superaccount.ensure_dev_superaccount()

    assert post("/api/auth/login", {"email": email, "password": SECRET}).status_code == 401
    assert post("/api/auth/login", {"email": email, "password": "another-dev-password"}).status_code == 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PLYRUM_DEV_SUPERACCOUNT_ENABLED", False),
        ("PLYRUM_DEV_SUPERACCOUNT_PASSWORD", ""),
        ("IS_PRODUCTION", True),
    ],
)
def test_switched_off_it_does_not_exist(
    superuser: UUID, post: Post, settings: Settings, name: str, value: object
) -> None:
    setattr(settings, name, value)

    answer = post("/api/auth/login", {"email": settings.PLYRUM_DEV_SUPERACCOUNT_EMAIL, "password": SECRET})

    assert answer.status_code == 401
    assert not User.objects.filter(pk=superuser).exists()


def test_in_production_an_old_row_has_no_unlimited_balance(superuser: UUID, settings: Settings) -> None:
    superaccount.ensure_dev_superaccount()
    assert credentials.for_site_session(superuser).is_unlimited

    settings.IS_PRODUCTION = True

    assert not credentials.for_site_session(superuser).is_unlimited


def test_address_of_somebody_else_is_not_taken_over(superuser: UUID, settings: Settings) -> None:
    settings.PLYRUM_DEV_SUPERACCOUNT_EMAIL = factories.customer().email

    assert superaccount.ensure_dev_superaccount() is None
    assert not User.objects.filter(pk=superuser).exists()


def test_customer_is_not_unlimited(superuser: UUID) -> None:
    assert not credentials.for_site_session(factories.customer().id).is_unlimited
