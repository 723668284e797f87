"""Sign-up, sign-in and passwords on the site, through allauth with our form, letters and journal."""

import re
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.conf import settings as configured
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.core import mail
from django.core.mail import EmailMessage
from django.http import HttpResponse
from django.test import Client, RequestFactory

from accounts.adapter import AccountAdapter
from accounts.models import User
from auditlog.models import AuditEvent
from legal import documents
from legal.models import Acceptance
from plyrum import clock
from plyrum.ids import uuid7
from tests import factories
from tests.accounts.test_refresh import is_alive, signed_in
from tests.factories import PASSWORD, unique_email
from tests.threads import at_once

NEW_PASSWORD = "another long passphrase"


def letter_to(email: str) -> EmailMessage:
    """The last letter to this address."""
    return [letter for letter in mail.outbox if letter.to == [email]][-1]


def sign_up(client: Client, email: str, **changes: Any) -> Any:
    form = {"email": email, "password1": PASSWORD, "accept_offer": "on", **changes}
    return client.post("/signup", {name: value for name, value in form.items() if value is not None})


def code_in(letter: EmailMessage) -> str:
    return str(re.findall(r"^[A-Z0-9-]{6,9}$", str(letter.body), re.MULTILINE)[0])


# --- sign-up ---------------------------------------------------------------------------------------------


def test_page_shows_an_unticked_box_bound_to_the_offer_in_force(client: Client) -> None:
    page = client.get("/signup")

    form = page.context["form"]
    assert page.status_code == 200
    assert not form["accept_offer"].value()
    offer = str(documents.current("offer", at=clock.now()).pk)
    assert str(form["offer_version"].value()) == offer
    assert f'value="{offer}"' in page.content.decode()


def test_signing_up_leads_through_the_code_into_the_account(client: Client, address: str) -> None:
    email = unique_email()

    first = sign_up(client, email)
    user = User.objects.get(email=email)
    was_verified = user.email_verified
    second = client.post("/verify", {"code": code_in(letter_to(email))})

    user.refresh_from_db()
    assert (first.status_code, first["Location"]) == (302, "/verify")
    assert not was_verified
    assert second.status_code == 302
    assert client.session["_auth_user_id"] == str(user.pk)
    assert user.email_verified
    acceptance = Acceptance.objects.get(user_id=user.id)
    assert (acceptance.surface, acceptance.act, acceptance.ip) == ("site", "registration", address)
    actions = set(AuditEvent.objects.filter(target_user_id=user.id).values_list("action", flat=True))
    assert actions == {
        "accounts.user.registered",
        "legal.acceptance.recorded",
        "accounts.user.email_verified",
        "accounts.session.opened",
    }


def test_wrong_code_opens_nothing(client: Client) -> None:
    email = unique_email()
    sign_up(client, email)

    client.post("/verify", {"code": "AAAAAA"})

    assert "_auth_user_id" not in client.session
    assert not User.objects.get(email=email).email_verified


@pytest.mark.parametrize(
    "changes",
    [
        {"accept_offer": None},
        {"password1": "short"},
        {"password1": None},
        {"email": "no-address"},
        {"email": "анна@example.ru"},
        {"email": "longſ@example.ru"},
        {"offer_version": str(uuid7())},
        {"offer_version": "x"},
    ],
)
def test_wrong_form_makes_nobody(client: Client, changes: dict[str, Any]) -> None:
    email = unique_email()

    page = sign_up(client, **{"email": email, **changes})

    assert page.status_code == 200
    assert page.context["form"].errors
    assert not User.objects.filter(email=email).exists()


def test_changed_offer_is_shown_before_it_can_be_accepted(client: Client) -> None:
    page = sign_up(client, unique_email(), offer_version=str(uuid7()))

    form = page.context["form"]
    assert "Оферта изменилась" in str(form.errors["accept_offer"])
    assert form["offer_version"].value() == str(documents.current("offer", at=clock.now()).pk)


def test_taken_address_looks_like_a_new_one_and_gets_a_letter(client: Client) -> None:
    user = factories.customer()
    before = User.objects.get(pk=user.pk).password

    taken = sign_up(client, user.email.upper())
    fresh = sign_up(Client(REMOTE_ADDR="2001:db8::9"), unique_email())

    assert (taken.status_code, taken["Location"]) == (fresh.status_code, fresh["Location"])
    letter = letter_to(user.email)
    assert "уже есть вход" in letter.subject
    assert f"{configured.SITE_URL}/login" in letter.body
    assert User.objects.get(pk=user.pk).password == before


def test_parallel_sign_ups_of_one_address_make_one_account() -> None:
    email = unique_email("site-race")
    variants = iter([email, email.upper()] * 4)

    def go() -> int:
        return int(sign_up(Client(REMOTE_ADDR=f"2001:db8::{uuid7().hex[-4:]}"), next(variants)).status_code)

    outcomes = at_once(8, go)

    assert set(outcomes) <= {302, 429}  # 429: a second code for the same address within seconds
    assert User.objects.filter(email=email).count() == 1
    assert Acceptance.objects.filter(user_id=User.objects.get(email=email).id).count() == 1


# --- sign-in and sign-out --------------------------------------------------------------------------------


def test_right_password_opens_a_session(client: Client) -> None:
    user = factories.customer()

    answer = client.post("/login", {"login": user.email.upper(), "password": PASSWORD})

    assert answer.status_code == 302
    assert client.session["_auth_user_id"] == str(user.pk)
    assert AuditEvent.objects.filter(action="accounts.session.opened", target_user_id=user.id).count() == 1


def test_unverified_customer_must_prove_the_address_first(client: Client) -> None:
    user = factories.customer(email_verified=False)

    answer = client.post("/login", {"login": user.email, "password": PASSWORD})
    client.post("/verify", {"code": code_in(letter_to(user.email))})

    assert answer["Location"] == "/verify"
    assert client.session["_auth_user_id"] == str(user.pk)
    assert User.objects.get(pk=user.pk).email_verified


def test_failures_look_the_same_and_are_journalled(client: Client, address: str) -> None:
    pages = [
        client.post("/login", {"login": email, "password": "wrong password here"})
        for email in (factories.customer().email, unique_email())
    ]

    texts = [str(page.context["form"].non_field_errors()) for page in pages]
    assert texts[0] == texts[1]
    assert [page.status_code for page in pages] == [200, 200]
    assert AuditEvent.objects.filter(action="accounts.session.refused", ip=address).count() == 2


def test_blocked_customer_stays_outside(client: Client) -> None:
    user = factories.customer(is_active=False)

    answer = client.post("/login", {"login": user.email, "password": PASSWORD})

    assert answer["Location"] == "/inactive"
    assert "_auth_user_id" not in client.session
    assert client.get("/inactive").status_code == 200


def test_sixth_wrong_password_must_wait(client: Client) -> None:
    user = factories.customer()
    for _ in range(5):
        client.post("/login", {"login": user.email, "password": "wrong password here"})

    page = client.post("/login", {"login": user.email, "password": PASSWORD})

    assert "_auth_user_id" not in client.session
    assert page.status_code in (200, 429)


def test_sign_out_asks_and_then_ends_the_session(client: Client) -> None:
    client.force_login(factories.customer())

    asked = client.get("/logout")
    was_in = "_auth_user_id" in client.session
    client.post("/logout")

    assert asked.status_code == 200
    assert was_in
    assert "_auth_user_id" not in client.session


def test_session_of_before_does_not_work_after_sign_out(client: Client) -> None:
    client.force_login(factories.customer())
    stolen = client.cookies[configured.SESSION_COOKIE_NAME].value

    client.post("/logout")
    client.cookies[configured.SESSION_COOKIE_NAME] = stolen

    assert client.get("/email").status_code == 302


def test_sign_in_gives_the_session_a_new_name(client: Client) -> None:
    user = factories.customer()
    client.get("/login")
    session = client.session
    session["planted"] = 1
    session.save()
    planted = session.session_key
    client.cookies[configured.SESSION_COOKIE_NAME] = str(planted)

    client.post("/login", {"login": user.email, "password": PASSWORD})

    assert client.session.session_key != planted


# --- passwords and addresses -----------------------------------------------------------------------------


def test_new_password_ends_every_other_session(client: Client) -> None:
    user = factories.customer()
    pair, other = signed_in(user), Client()
    client.force_login(user)
    other.force_login(user)

    form = {"oldpassword": PASSWORD, "password1": NEW_PASSWORD, "password2": NEW_PASSWORD}
    answer = client.post("/password/change", form)

    assert answer.status_code == 302
    assert client.get("/email").status_code == 200
    assert other.get("/email").status_code == 302
    assert not is_alive(client, pair)
    assert User.objects.get(pk=user.pk).check_password(NEW_PASSWORD)
    assert AuditEvent.objects.filter(action="accounts.user.password_changed", target_user_id=user.id).exists()


def test_new_password_needs_the_old_one(client: Client) -> None:
    user = factories.customer()
    client.force_login(user)

    form = {"oldpassword": "wrong password", "password1": NEW_PASSWORD, "password2": NEW_PASSWORD}
    client.post("/password/change", form)

    assert User.objects.get(pk=user.pk).check_password(PASSWORD)


def reset_path(user: User, client: Client, host: str = "testserver") -> str:
    client.post("/password/reset", {"email": user.email}, headers={"Host": host})
    body = str(letter_to(user.email).body)
    found = re.search(rf"{re.escape(configured.SITE_URL)}(/password/reset/key/\S+)", body)
    assert found, body
    return found.group(1)


def test_reset_works_once_and_ends_every_session(client: Client) -> None:
    user = factories.customer()
    pair, site = signed_in(user), Client()
    site.force_login(user)
    path = reset_path(user, client)

    landed = client.get(path, follow=True)
    client.post(landed.request["PATH_INFO"], {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD})
    again = Client().get(path, follow=True)

    user.refresh_from_db()
    assert user.check_password(NEW_PASSWORD)
    assert "_auth_user_id" not in client.session
    assert site.get("/email").status_code == 302
    assert not is_alive(client, pair)
    assert again.context.get("token_fail") is True


def test_link_of_a_reset_names_our_host_whatever_the_request_says(client: Client) -> None:
    assert reset_path(factories.customer(), client, host="localhost")


def test_reset_for_an_unknown_address_looks_the_same(client: Client) -> None:
    email = unique_email()

    known = client.post("/password/reset", {"email": factories.customer().email})
    unknown = client.post("/password/reset", {"email": email})

    assert (known.status_code, known["Location"]) == (unknown.status_code, unknown["Location"])
    assert "нет" in letter_to(email).subject


def test_address_cannot_be_changed_without_the_password(client: Client) -> None:
    user = factories.customer()
    client.force_login(user)  # a session that never gave a password, as a stolen cookie

    answer = client.post("/email", {"action_add": "", "email": unique_email()})

    assert answer.status_code == 302
    assert answer["Location"].startswith("/reauthenticate")
    assert EmailAddress.objects.filter(user=user).count() == 1


def test_address_proved_by_somebody_else_meanwhile_stays_unproved() -> None:
    """Two accounts named one address; the second proof comes too late and changes nothing."""
    late, first = factories.customer(email_verified=False), factories.stranger()
    EmailAddress.objects.filter(user=first).update(email=late.email)
    request = RequestFactory().post("/verify")
    SessionMiddleware(lambda _: HttpResponse()).process_request(request)
    MessageMiddleware(lambda _: HttpResponse()).process_request(request)

    is_confirmed = AccountAdapter(request).confirm_email(request, EmailAddress.objects.get(user=late))

    assert not is_confirmed
    assert not User.objects.get(pk=late.pk).email_verified


@pytest.mark.parametrize(
    "path",
    ["/signup", "/login", "/password/reset", "/password/reset/done", "/password/reset/finished", "/inactive"],
)
@pytest.mark.parametrize("prefix", ["", "/en"])
def test_pages_open_in_both_languages(client: Client, path: str, prefix: str) -> None:
    assert client.get(f"{prefix}{path}").status_code == 200


def test_pages_of_the_account_lead_visitors_to_sign_in(client: Client) -> None:
    for path in ("/email", "/password/change", "/reauthenticate"):
        answer = client.get(path)
        assert answer.status_code == 302
        assert answer["Location"].startswith("/login")
