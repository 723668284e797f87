"""The menu of the back office: every list can be found, and nobody is shown what they may not open."""

from django.contrib import admin
from django.test import Client
from django.urls import reverse

from tests import factories

# Their rows are reached from the page of what they belong to.
FROM_OTHER_PAGES = {"billing_creditlot", "orchestration_attempt", "plans_subscriptionperiod"}


def entries(client: Client) -> set[str]:
    """Addresses of the menu of whoever is signed in."""
    groups = client.get("/admin/").context["sidebar_navigation"]
    return {str(item["link"]) for group in groups for item in group["items"] if item["has_permission"]}


def test_every_list_is_in_the_menu(client: Client) -> None:
    owner = factories.operator()
    client.force_login(owner)
    names = (f"{model._meta.app_label}_{model._meta.model_name}" for model in admin.site._registry)
    lists = {name for name in names if owner.has_perm(name.replace("_", ".view_", 1))}

    found = entries(client)

    missing = {name for name in lists if reverse(f"admin:{name}_changelist") not in found}
    assert missing == FROM_OTHER_PAGES
    assert all(client.get(address).status_code == 200 for address in found)


def test_menu_shows_what_the_role_may_open(client: Client) -> None:
    client.force_login(factories.operator("catalogue"))

    found = entries(client)

    assert reverse("admin:orchestration_model_changelist") in found
    assert reverse("admin:accounts_user_changelist") not in found
    assert all(client.get(address).status_code == 200 for address in found)
