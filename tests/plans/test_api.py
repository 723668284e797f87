"""The customer API of plans over HTTP: shapes, keys, refusals, other people's subscriptions."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.test import Client

from accounts.models import User
from plans import offers, quota
from plans.models import Pack, PlanVersion
from plans.shapes import CampaignTerms
from plyrum import clock
from plyrum.ids import uuid7
from tests import factories
from tests.billing import books
from tests.billing.books import RUB
from tests.plans import world


class Caller:
    """Somebody with an access token."""

    def __init__(self, client: Client, user: User) -> None:
        self._client, self._headers = client, factories.bearer(user)

    def post(self, path: str, body: dict[str, Any] | None = None, **headers: str) -> Any:
        sent = self._headers | headers
        return self._client.post(f"/api/{path}", body or {}, content_type="application/json", headers=sent)

    def post_nothing(self, path: str, **headers: str) -> Any:
        return self._client.generic("POST", f"/api/{path}", b"", headers=self._headers | headers)

    def get(self, path: str) -> Any:
        return self._client.get(f"/api/{path}", headers=self._headers)


@pytest.fixture
def version() -> PlanVersion:
    return world.plan(300, 200, images=10, member=150)


@pytest.fixture
def user() -> User:
    return world.customer(1000)


@pytest.fixture
def caller(client: Client, user: User) -> Caller:
    return Caller(client, user)


def test_everybody_sees_what_is_on_offer_and_no_number_of_images(
    client: Client, version: PlanVersion
) -> None:
    offers.offer_pack(
        amount_micro_rub=98_765 * RUB, bonus_micro_rub=RUB, bonus_days=None, reason="Пакет для проверки",
        actor=world.boss(),
    )  # fmt: skip

    body = client.get("/api/plans").json()

    (found,) = [item for item in body["items"] if item["code"] == version.plan_id]
    assert found == {
        "code": version.plan_id,
        "name": "Probe",
        "price_micro_rub": 300 * RUB,
        "member_price_micro_rub": 150 * RUB,
        "period_months": 1,
        "grant_micro_rub": 200 * RUB,
        "rollover_cap_micro_rub": 50 * RUB,
        "has_images": True,
    }
    assert {"amount_micro_rub": 98_765 * RUB, "bonus_micro_rub": RUB, "bonus_days": None} in body["packs"]
    pack = Pack.objects.get(amount_micro_rub=98_765 * RUB)
    offers.withdraw_pack(pack_id=pack.pk, reason="Проверка закончилась", actor=world.OPERATOR)
    assert not [row for row in client.get("/api/plans").json()["packs"] if row["bonus_micro_rub"] == RUB]


def test_whole_life_over_http(caller: Caller, user: User, version: PlanVersion) -> None:
    assert caller.get("subscription").json() == {"subscription": None}
    assert caller.get("quota").json() == {"bucket": 0, "renews_at": None}
    order = {"plan": version.plan_id, "renewal": "automatic", "price_micro_rub": 300 * RUB}

    bought = caller.post("subscription/activate", order, **{"Idempotency-Key": "buy"})
    again = caller.post("subscription/activate", order | {"idempotency_key": "buy"})
    other = caller.post("subscription/activate", order | {"idempotency_key": "buy", "renewal": "manual"})

    assert (bought.status_code, again.status_code) == (201, 201)
    assert "Idempotent-Replayed" not in bought.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json() == bought.json()
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    shown = bought.json()["subscription"]
    assert shown == {
        "id": shown["id"],
        "plan": version.plan_id,
        "next_plan": None,
        "state": "active",
        "renewal": "automatic",
        "cancel_at_period_end": False,
        "period_start": shown["period_start"],
        "period_end": shown["period_end"],
        "paid_until": shown["period_end"],
        "next_price_micro_rub": 300 * RUB,
        "next_period_start": shown["period_end"],
    }
    assert caller.get("quota").json() == {"bucket": 100, "renews_at": shown["period_end"]}
    assert (
        caller.post("subscription/renewal", {"renewal": "manual"}).json()["subscription"]["renewal"]
        == "manual"
    )
    assert caller.post("subscription/cancel").json()["subscription"]["cancel_at_period_end"] is True
    assert caller.post("subscription/resume").json()["subscription"]["cancel_at_period_end"] is False
    key = {"Idempotency-Key": str(uuid7())}
    for _ in range(2):  # no field is needed, so no body is
        nothing = caller.post_nothing("subscription/cancel", **key)
        assert nothing.json()["subscription"]["cancel_at_period_end"] is True
    assert nothing["Idempotent-Replayed"] == "true"
    assert caller.post_nothing("subscription/resume").status_code == 200
    ahead = caller.post("subscription/renew").json()["subscription"]
    assert ahead["paid_until"] > ahead["period_end"]
    larger = world.plan(600, 500)
    refused = caller.post("subscription/change", {"plan": larger.plan_id})
    assert (refused.status_code, refused.json()["code"]) == (409, "period_paid_ahead")
    types = [row["type"] for row in caller.get("billing/ledger").json()["items"]]
    assert types == ["plan_grant", "plan_purchase"] * 2 + ["topup"]


def test_change_answers_the_plan_at_once_or_the_next_one(caller: Caller, version: PlanVersion) -> None:
    larger, smaller = world.plan(600, 500), world.plan(100, 50)
    caller.post("subscription/activate", {"plan": version.plan_id})

    later = caller.post("subscription/change", {"plan": smaller.plan_id}).json()["subscription"]
    at_once = caller.post("subscription/change", {"plan": larger.plan_id}).json()["subscription"]

    assert (later["plan"], later["next_plan"]) == (version.plan_id, smaller.plan_id)
    assert (at_once["plan"], at_once["next_plan"]) == (larger.plan_id, None)


def test_images_are_told_in_steps_of_a_fifth(caller: Caller, user: User, version: PlanVersion) -> None:
    world.activate(user, version, clock.now())
    told = []
    for number in range(11):
        answer = caller.get("quota").json()
        told.append(answer["bucket"])
        assert set(answer) == {"bucket", "renews_at"}
        if number < 10:
            with transaction.atomic():
                quota.take(customer_id=user.id, key=f"run:{uuid7()}", now=clock.now())

    assert told == [100, 100, 80, 80, 60, 60, 40, 40, 20, 20, 0]
    # Neither the plan nor the subscription lets the number out.
    texts = [caller.get(path).content.decode() for path in ("plans", "subscription", "quota")]
    assert not any(re.search(r"image_quota|images_used|images_left", text) for text in texts)


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("subscription/activate", {"plan": "none-such"}, 404, "plan_not_found"),
        ("subscription/activate", {"plan": "a/b"}, 422, "validation_failed"),
        ("subscription/activate", {"plan": "x", "renewal": "never"}, 422, "validation_failed"),
        ("subscription/activate", {}, 422, "validation_failed"),
        ("subscription/renew", {}, 409, "not_subscribed"),
        ("subscription/renew", {"walk": 1}, 422, "validation_failed"),
        ("subscription/renew", {"period_start": 1893456000}, 422, "validation_failed"),
        ("subscription/renew", {"period_start": "2030-01-01T00:00:00Z"}, 409, "not_subscribed"),
        ("subscription/change", {"plan": "none-such"}, 409, "not_subscribed"),
        ("subscription/cancel", {}, 409, "not_subscribed"),
        ("subscription/resume", {}, 409, "not_subscribed"),
        ("subscription/renewal", {"renewal": "manual"}, 409, "not_subscribed"),
        ("promo/redeem", {"code": "---"}, 404, "promo_code_unknown"),
        ("promo/redeem", {"code": ""}, 422, "validation_failed"),
    ],
)
def test_bad_input_is_told_and_moves_nothing(
    caller: Caller, user: User, path: str, body: dict[str, Any], status: int, code: str
) -> None:
    answer = caller.post(path, body)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert world.kinds(user.id) == ["topup"]


def test_short_wallet_and_another_price_are_told_with_facts(client: Client, version: PlanVersion) -> None:
    poor = world.customer(100)
    caller = Caller(client, poor)

    short = caller.post("subscription/activate", {"plan": version.plan_id, "idempotency_key": "once"})
    dearer = caller.post("subscription/activate", {"plan": version.plan_id, "price_micro_rub": 1})
    too_long = caller.post("subscription/cancel", {}, **{"Idempotency-Key": "k" * 256})
    books.credit(poor.id, 200 * RUB)
    bought = caller.post("subscription/activate", {"plan": version.plan_id, "idempotency_key": "once"})

    assert (short.status_code, short.json()["code"]) == (402, "insufficient_balance")
    assert (short.json()["needed_micro_rub"], short.json()["balance_micro_rub"]) == (300 * RUB, 100 * RUB)
    assert (dearer.status_code, dearer.json()["code"]) == (409, "price_changed")
    assert dearer.json()["price_micro_rub"] == 300 * RUB
    assert too_long.status_code == 422
    assert bought.status_code == 201


def test_stranger_sees_and_moves_nothing_of_it(caller: Caller, client: Client, version: PlanVersion) -> None:
    caller.post("subscription/activate", {"plan": version.plan_id, "idempotency_key": "mine"})
    stranger = Caller(client, factories.stranger())

    assert stranger.get("subscription").json() == {"subscription": None}
    assert stranger.get("quota").json()["bucket"] == 0
    assert stranger.post("subscription/cancel", {"idempotency_key": "mine"}).status_code == 409
    assert caller.get("subscription").json()["subscription"]["cancel_at_period_end"] is False
    for path in ("subscription", "quota"):
        assert client.get(f"/api/{path}").status_code == 401
    assert client.post("/api/promo/redeem", {}, content_type="application/json").status_code == 401


def test_promo_code_is_redeemed_over_http(caller: Caller, user: User) -> None:
    now = clock.now()
    code = uuid7().hex[-12:].upper()
    terms = CampaignTerms(
        amount_micro_rub=70 * RUB, bonus_days=30, valid_from=now, valid_until=None, uses_limit=100
    )
    offers.open_campaign(
        name="Осень", code=code, terms=terms, reason="Осенняя рассылка", now=now, actor=world.boss()
    )

    given = caller.post(
        "promo/redeem", {"code": f" {code[:6].lower()}-{code[6:]} "}, **{"Idempotency-Key": "gift"}
    )
    repeated = caller.post("promo/redeem", {"code": code, "idempotency_key": "gift"})
    other = caller.post("promo/redeem", {"code": "OTHER", "idempotency_key": "gift"})
    again = caller.post("promo/redeem", {"code": code})

    assert "Idempotent-Replayed" not in given.headers
    assert (repeated.status_code, repeated.json()) == (201, given.json())
    assert repeated.headers["Idempotent-Replayed"] == "true"
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    assert (given.status_code, given.json()["amount_micro_rub"]) == (201, 70 * RUB)
    assert given.json()["expires_at"] > clock.rfc3339(now + timedelta(days=29))
    assert (again.status_code, again.json()["code"]) == (409, "promo_code_used")
    assert world.left(user.id) == {"purchased": 1000, "bonus": 70}
    wrong = [caller.post("promo/redeem", {"code": f"WRONG{n}"}).status_code for n in range(12)]
    assert wrong == [404] * 10 + [429] * 2  # "again" was no guess: the code exists
