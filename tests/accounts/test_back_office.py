import pytest
from django.conf import settings
from django.contrib import admin
from django.db import transaction
from django.test import Client, RequestFactory

from accounts import notices
from accounts.admin import LETTERS
from accounts.models import ApiKey, RefreshFamily, User
from accounts.operator_login import OperatorLoginForm
from auditlog.models import AuditEvent
from legal.models import Acceptance
from plyrum import clock
from plyrum.ids import uuid7
from tests import factories
from tests.accounts.test_refresh import is_alive, signed_in
from tests.factories import PASSWORD

PAGES = (
    "accounts/user",
    "accounts/refreshfamily",
    "accounts/apikey",
    "auditlog/auditevent",
    "auditlog/jobrun",
    "legal/documentversion",
    "legal/acceptance",
)


@pytest.fixture
def owner(client: Client) -> User:
    """An owner who is signed in to the back office."""
    operator = factories.operator("owner")
    client.force_login(operator)
    return operator


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.usefixtures("owner")
def test_lists_and_searches_open(client: Client, page: str) -> None:
    factories.customer()

    assert client.get(f"/admin/{page}/").status_code == 200
    assert client.get(f"/admin/{page}/", {"q": "anna"}).status_code == 200


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.usefixtures("owner")
def test_nothing_can_be_added_or_deleted(client: Client, page: str) -> None:
    factories.customer()
    app, model = page.split("/")
    model_class = next(found for found in admin.site._registry if found._meta.label_lower == f"{app}.{model}")
    row = model_class._default_manager.first()
    if row is None:  # no job has run yet in this database
        row = model_class._default_manager.model(pk=uuid7())

    assert client.get(f"/admin/{page}/add/").status_code == 403
    assert client.post(f"/admin/{page}/{row.pk}/delete/", {"post": "yes"}).status_code in (302, 403)
    assert client.post(f"/admin/{page}/{row.pk}/change/", {"email": "x"}).status_code in (302, 403)


@pytest.mark.usefixtures("owner")
def test_page_of_a_customer_shows_no_password(client: Client) -> None:
    user = factories.customer()

    page = client.get(f"/admin/accounts/user/{user.pk}/change/").content.decode()

    assert user.email in page
    assert user.password not in page
    assert 'name="password"' not in page
    assert "argon2" not in page


@pytest.mark.usefixtures("owner")
def test_customer_is_found_by_address_and_by_id(client: Client) -> None:
    user, other = factories.customer(), factories.stranger()

    for term in (user.email, str(user.pk)):
        page = client.get("/admin/accounts/user/", {"q": term}).content.decode()
        assert user.email in page
        assert other.email not in page


@pytest.mark.parametrize("is_htmx", [True, False])
def test_blocking_asks_for_a_reason_and_is_journalled(client: Client, owner: User, is_htmx: bool) -> None:
    user = factories.customer()
    pair, path = signed_in(user), f"/admin/accounts/user/{user.pk}/block/"
    headers = {"HX-Request": "true"} if is_htmx else {}

    dialog = client.get(path, headers=headers)
    empty = client.post(path, {"_form_submitted": "True", "reason": ""}, headers=headers)
    done = client.post(path, {"_form_submitted": "True", "reason": "Жалоба"}, headers=headers)

    assert 'name="reason"' in dialog.content.decode()
    assert empty.status_code == 200
    back = f"/admin/accounts/user/{user.pk}/change/"
    assert (done.headers.get("HX-Redirect") if is_htmx else done["Location"]) == back
    assert not is_alive(client, pair)
    event = AuditEvent.objects.get(action="accounts.user.blocked", target_user_id=user.pk)
    assert (event.actor_kind, event.actor_id, event.data) == ("operator", str(owner.pk), {"reason": "Жалоба"})


@pytest.mark.usefixtures("owner")
def test_unblocking_lets_in_again(client: Client) -> None:
    user = factories.customer()
    form = {"_form_submitted": "True", "reason": "Проверено"}
    card = f"/admin/accounts/user/{user.pk}"
    client.post(f"{card}/block/", form)
    blocked = client.get(f"{card}/change/").content.decode()

    client.post(f"{card}/unblock/", form)

    assert User.objects.get(pk=user.pk).is_active
    assert (f"{card}/block/" in blocked, f"{card}/unblock/" in blocked) == (False, True)
    assert f"/admin/payments/payment/?q={user.pk}" in blocked


def test_refusal_of_an_act_is_shown(client: Client, owner: User) -> None:
    form = {"_form_submitted": "True", "reason": "Проверка"}

    page = client.post(f"/admin/accounts/user/{owner.pk}/block/", form, follow=True)

    assert "Свой аккаунт не заблокировать." in page.content.decode()
    assert User.objects.get(pk=owner.pk).is_active


@pytest.mark.usefixtures("owner")
def test_id_that_is_none_is_not_found(client: Client) -> None:
    form = {"_form_submitted": "True", "reason": "Проверка"}

    assert client.post("/admin/accounts/user/abc/block/", form).status_code == 404


@pytest.mark.parametrize(
    ("role", "may_look", "may_block"),
    [
        ("support", True, False),
        ("finance", True, False),
        ("catalogue", False, False),
        ("security", True, True),
        ("owner", True, True),
    ],
)
def test_roles_bound_what_an_operator_sees_and_does(
    client: Client, role: str, may_look: bool, may_block: bool
) -> None:
    user = factories.customer()
    client.force_login(factories.operator(role))

    looked = client.get(f"/admin/accounts/user/{user.pk}/change/").status_code
    client.post(f"/admin/accounts/user/{user.pk}/block/", {"_form_submitted": "True", "reason": "Проверка"})

    assert looked == (200 if may_look else 403)
    assert User.objects.get(pk=user.pk).is_active is not may_block


def test_customer_does_not_enter(client: Client) -> None:
    client.force_login(factories.customer())

    assert client.get("/admin/accounts/user/").status_code == 302


@pytest.mark.usefixtures("owner")
def test_filters_cannot_ask_about_the_password(client: Client) -> None:
    asked = {
        "accounts/user/": {"password__startswith": "argon2"},
        "accounts/apikey/": {"digest__startswith": "a"},
        "accounts/refreshfamily/": {"tokens__token_hash__startswith": "a"},
    }

    assert {client.get(f"/admin/{page}", query).status_code for page, query in asked.items()} == {400}
    assert client.get("/admin/accounts/user/", {"is_active__exact": "1"}).status_code == 200


@pytest.mark.usefixtures("owner")
def test_journal_narrows_by_part_of_the_system(client: Client) -> None:
    assert client.get("/admin/auditlog/auditevent/", {"app": "accounts"}).status_code == 200


@pytest.mark.usefixtures("owner")
def test_sessions_of_a_customer_are_listed(client: Client) -> None:
    user = factories.customer()
    signed_in(user)
    family = RefreshFamily.objects.get(user=user)

    page = client.get(f"/admin/accounts/refreshfamily/{family.pk}/change/").content.decode()

    assert str(family.pk) in page


def test_key_is_found_and_revoked_with_a_reason(client: Client, owner: User) -> None:
    user = factories.customer()
    (row, headers), (other, _) = factories.api_key(user), factories.api_key(user)
    address = f"/admin/accounts/apikey/{row.pk}/"

    listed = client.get("/admin/accounts/apikey/", {"q": row.prefix}).content.decode()
    shown = client.get(f"{address}change/").content.decode()
    without = client.post(f"{address}revoke/", {"_form_submitted": "True", "reason": " "})
    client.post(f"{address}revoke/", {"_form_submitted": "True", "reason": "Найден в открытом коде"})

    assert f"{row.pk}" in listed
    assert f"{other.pk}" not in listed
    assert row.prefix in shown
    assert row.digest not in listed + shown
    assert headers["Authorization"][-49:] not in listed + shown
    assert without.status_code in (200, 422)
    assert ApiKey.objects.get(pk=row.pk).revoked_at is not None
    assert ApiKey.objects.get(pk=other.pk).revoked_at is None
    entry = AuditEvent.objects.get(action="accounts.api_key.revoked", target_user_id=user.pk)
    assert (entry.actor_kind, entry.actor_id, entry.data["reason"]) == (
        "operator", str(owner.pk), "Найден в открытом коде",
    )  # fmt: skip
    client.force_login(factories.operator("support"))
    assert client.get("/admin/accounts/apikey/").status_code == 200
    client.post(
        f"/admin/accounts/apikey/{other.pk}/revoke/", {"_form_submitted": "True", "reason": "Проверка"}
    )
    assert ApiKey.objects.get(pk=other.pk).revoked_at is None


# --- the sign-in form ------------------------------------------------------------------------------------


def form(email: str, password: str, address: str) -> OperatorLoginForm:
    request = RequestFactory().post("/admin/login/", REMOTE_ADDR=address)
    request.client_ip = address  # type: ignore[attr-defined]
    return OperatorLoginForm(request, data={"username": email, "password": password})


def test_operator_signs_in_with_the_password(address: str) -> None:
    operator = factories.operator()

    found = form(operator.email.upper(), PASSWORD, address)

    assert found.is_valid()
    assert found.get_user() == operator
    event = AuditEvent.objects.get(action="accounts.operator.logged_in", target_user_id=operator.pk)
    assert (event.actor_kind, event.actor_id, event.ip) == ("operator", str(operator.pk), address)


@pytest.mark.parametrize(("who", "password"), [("operator", "wrong password"), ("customer", PASSWORD)])
def test_wrong_password_and_customers_are_refused_and_journalled(
    address: str, who: str, password: str
) -> None:
    person = getattr(factories, who)()

    assert not form(person.email, password, address).is_valid()
    assert AuditEvent.objects.filter(action="accounts.operator.login_refused", ip=address).count() == 1


def test_sixth_attempt_must_wait_even_with_the_right_password(address: str) -> None:
    operator = factories.operator()
    for _ in range(5):
        form(operator.email, "wrong password", address).is_valid()

    refused = form(operator.email, PASSWORD, address)

    assert not refused.is_valid()
    assert "Слишком много попыток" in str(refused.errors)


@pytest.mark.usefixtures("owner")
def test_letters_are_told_in_words_and_found_by_kind(client: Client) -> None:
    user = factories.customer()
    facts = {"number": "26-000001", "amount_micro_rub": 1_000_000, "url": "http://127.0.0.1/"}
    with transaction.atomic():
        notices.write(
            user_id=user.id, letter="invoice_paid", key=f"test:{uuid7()}", facts=facts, now=clock.now()
        )

    found, others = (
        client.get("/admin/accounts/notice/", {"q": str(user.id), "letter": letter}).content.decode()
        for letter in ("invoice_paid", "plan_ended")
    )

    assert found.count("счёт оплачен") == others.count("счёт оплачен") + 1  # the filter names it in both
    assert f"/admin/accounts/user/{user.id}/change/" in found
    assert f"/admin/accounts/user/{user.id}/change/" not in others


@pytest.mark.parametrize(("role", "sees"), [("support", True), ("owner", True), ("catalogue", False)])
def test_letters_and_acceptances_name_people_to_those_who_may_see_them(
    client: Client, role: str, sees: bool
) -> None:
    user = factories.customer()
    with transaction.atomic():
        notices.write(user_id=user.id, letter="plan_ended", key=f"test:{uuid7()}", facts={}, now=clock.now())
    client.force_login(factories.operator(role))

    pages = ["legal/acceptance", "accounts/notice"][: 2 if sees else 1]  # letters are not for all roles
    for page in pages:
        by_id, by_email = (
            client.get(f"/admin/{page}/", {"q": wanted}).content.decode()
            for wanted in (str(user.id), user.email.upper())
        )
        link = f"/admin/accounts/user/{user.id}/change/"
        assert link in by_id
        assert (f">{user.email}</a>" in by_id, link in by_email) == (sees, sees)
    acceptance = Acceptance.objects.get(user_id=user.id)
    shown = client.get(f"/admin/legal/acceptance/{acceptance.pk}/change/").content.decode()
    assert (user.email in shown, str(user.id) in shown) == (sees, True)


def test_every_letter_of_the_outbox_has_words_for_operators() -> None:
    """Letters of the entrance go out at once and are no rows."""
    at_once = ("account_", "email_", "password_", "unknown_", "session_")
    folders = {path.name for path in (settings.BASE_DIR / "templates/emails").iterdir() if path.is_dir()}

    assert {name for name in folders if not name.startswith(at_once)} == set(LETTERS)
