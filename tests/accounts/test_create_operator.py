import getpass
import io

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from accounts import operators
from accounts.models import User
from auditlog.actors import SYSTEM
from auditlog.models import AuditEvent
from plyrum import clock
from plyrum.errors import InvalidRequest
from tests import factories
from tests.accounts.conftest import Post
from tests.factories import PASSWORD


def made(monkeypatch: pytest.MonkeyPatch, password: str, **options: str) -> str:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{password}\n"))
    out = io.StringIO()
    call_command("create_operator", password_stdin=True, stdout=out, **options)
    return out.getvalue()


def test_new_operator_signs_in_and_enters_the_back_office(
    monkeypatch: pytest.MonkeyPatch, post: Post, client: Client
) -> None:
    email = factories.unique_email("boss")

    printed = made(monkeypatch, "a long operator password", email=email, role="owner")

    user = User.objects.get(email=email)
    assert printed == f"Operator made: {email}, role owner, id {user.id}\n"
    answer = post("/api/auth/login", {"email": email, "password": "a long operator password"})
    assert answer.json()["user"]["is_operator"] is True
    client.force_login(user)
    assert client.get("/admin/").status_code == 200
    event = AuditEvent.objects.get(action="accounts.operator.made", target_user_id=user.id)
    assert event.actor_kind == "system"
    assert event.data == {"role": "owner", "is_new": True}


def test_customer_becomes_an_operator(monkeypatch: pytest.MonkeyPatch, post: Post) -> None:
    user = factories.customer()

    printed = made(monkeypatch, "a long operator password", email=user.email.upper(), role="finance")

    user.refresh_from_db()
    assert printed.startswith("Operator changed")
    assert (user.is_staff, user.role, user.operator_role) == (True, "finance", "finance")
    assert post("/api/auth/login", {"email": user.email, "password": PASSWORD}).status_code == 401


@pytest.mark.parametrize(
    ("password", "options", "complaint"),
    [
        ("short", {"email": "x@example.test", "role": "owner"}, "password is too weak"),
        ("a long operator password", {"email": "nobody", "role": "owner"}, "e-mail"),
    ],
)
def test_wrong_input_is_explained(
    monkeypatch: pytest.MonkeyPatch, password: str, options: dict[str, str], complaint: str
) -> None:
    with pytest.raises(CommandError, match=complaint):
        made(monkeypatch, password, **options)


def test_unknown_role_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CommandError):
        made(monkeypatch, PASSWORD, email="x@example.test", role="king")


def test_superusers_do_not_exist_here() -> None:
    with pytest.raises(CommandError, match="create_operator --email E --role owner"):
        call_command("createsuperuser")


def test_nobody_sets_the_password_of_somebody_else() -> None:
    user = factories.customer()

    with pytest.raises(CommandError, match="reset letter"):
        call_command("changepassword", user.email)


def test_act_refuses_a_role_that_is_none() -> None:
    for role in ("", "king"):
        with pytest.raises(InvalidRequest, match="A role is one of support"):
            operators.create(
                email="x@example.test", role=role, password=PASSWORD, now=clock.now(), actor=SYSTEM
            )


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What somebody types at the prompts, in order."""
    typed: list[str] = []
    monkeypatch.setattr(getpass, "getpass", lambda prompt: typed.pop(0))
    return typed


def test_password_is_asked_twice(answers: list[str]) -> None:
    answers += ["a long operator password"] * 2
    email = factories.unique_email("boss")

    call_command("create_operator", email=email, role="support", stdout=io.StringIO())

    assert User.objects.get(email=email).check_password("a long operator password")


def test_two_different_passwords_are_refused(answers: list[str]) -> None:
    answers += ["a long operator password", "a long operator passwork"]

    with pytest.raises(CommandError, match="differ"):
        call_command("create_operator", email="x@example.test", role="support")
