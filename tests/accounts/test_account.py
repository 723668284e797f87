from django.test import Client
from pytest_django import Settings

from legal import documents
from plyrum import clock
from tests import factories


def test_account_shows_the_own_profile_and_consents(client: Client) -> None:
    user = factories.customer()

    answer = client.get("/api/account", headers=factories.bearer(user))

    offer = documents.current("offer", at=clock.now())
    got = answer.json()
    assert answer.status_code == 200
    assert got["id"] == str(user.id)
    assert got["email"] == user.email
    assert (got["is_operator"], got["role"], got["unlimited"]) == (False, "", False)
    assert got["missing_acceptances"] == []
    assert got["limits"] == {}
    (consent,) = got["consents"]
    assert (consent["document"], consent["version"]) == ("offer", offer.number)
    assert (consent["version_id"], consent["sha256"]) == (str(offer.pk), offer.sha256)


def test_account_of_an_operator_names_the_role(client: Client) -> None:
    answer = client.get("/api/account", headers=factories.bearer(factories.operator("support")))

    assert (answer.json()["is_operator"], answer.json()["role"]) == (True, "support")


def test_person_named_in_the_settings_is_an_operator(client: Client, settings: Settings) -> None:
    user = factories.customer()
    settings.PLYRUM_ADMIN_USER_IDS = frozenset({str(user.id)})

    answer = client.get("/api/account", headers=factories.bearer(user))

    assert (answer.json()["is_operator"], answer.json()["role"]) == (True, "owner")


def test_account_is_closed_to_visitors(client: Client) -> None:
    answer = client.get("/api/account")

    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


def test_session_of_the_site_does_not_open_the_api(client: Client) -> None:
    """Cookies would open the API to forged requests of other sites."""
    client.force_login(factories.customer())

    assert client.get("/api/account").status_code == 401
