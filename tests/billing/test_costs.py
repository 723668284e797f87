"""What answers bring and cost: exact, the same however often and late; who is a risk and why."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction
from django.test import Client

from accounts import roles
from billing import costs, ledger, prices, pricing, tasks
from billing.cost_models import CostDay, CustomerRisk
from billing.costs import Facts, Level, Reason
from billing.models import FxRate
from billing.pricing import Usage
from plyrum import clock as real_clock
from plyrum.ids import uuid7
from tests import factories
from tests.billing import books
from tests.billing.books import RUB
from tests.billing.fixtures import LedgerClock
from tests.threads import at_once

NOON = datetime(2034, 3, 10, 9, tzinfo=UTC)  # noon in Moscow, on days that no other test writes
DAY = date(2034, 3, 10)


@pytest.fixture
def sold() -> dict[str, Any]:
    """A price of 2 dollars a million tokens at 95 roubles and 1.5 % of spread, sold with 30 % on top."""
    currency = books.currency()
    with transaction.atomic():
        version = prices.publish(
            sku=f"tests/{uuid7()}",
            price={"currency": currency, "input": "2.00", "output": "10.00"},
            markup_bp=13_000,
            now=NOON,
        )
    rate = FxRate.objects.create(
        currency=currency, micro_rub=95 * RUB, spread_bp=150, source="tests", rate_date=DAY
    )
    return {"version": version, "rate": rate}


def answer(customer: UUID, sold: dict[str, Any], tokens: int, *, model: str = "") -> UUID:
    """A run that consumed `tokens` of input; the entry of its charge."""
    price = prices.price_of(sold["version"], sold["rate"])
    usage = Usage(input_tokens=tokens)
    cost = pricing.cost(usage, price)
    hold_id = books.held(customer, cost)
    row = ledger.usage_row(
        run_id=hold_id,
        model=model or sold["version"].sku,
        provider="tests",
        usage=usage,
        price=price,
        cost=cost,
        charged=cost,
        api_key_id=None,
        estimated=False,
    )
    entry: UUID = books.settle(customer, hold_id, cost, usage=[row])["entry_id"]
    return entry


def days_of(customer: UUID) -> list[tuple[date, int, int, int]]:
    rows = CostDay.objects.filter(customer_id=customer).order_by("day", "model")
    return [(row.day, row.requests, row.revenue_micro_rub, row.cost_micro_rub) for row in rows]


def test_day_is_computed_exactly_and_a_repeat_changes_nothing(
    sold: dict[str, Any], clock: LedgerClock
) -> None:
    customer = books.funded(1000 * RUB)
    clock.stand_at(NOON)
    answer(customer, sold, 1000)
    taken_back = answer(customer, sold, 1000)
    clock.stand_at(NOON + timedelta(hours=12) - timedelta(microseconds=1))  # the last moment of Moscow's day
    answer(customer, sold, 1)
    clock.stand_at(NOON + timedelta(hours=12))
    books.reverse(customer, taken_back)

    costs._refresh_day(DAY)
    costs._refresh_day(DAY + timedelta(days=1))
    at_once(2, lambda: costs._refresh_day(DAY))

    # 1000 tokens: 0.002 dollars x 95 x 1.015 = 192 850 micro-RUB; sold for 250 705 (docs/reference/money.md)
    assert days_of(customer) == [
        (DAY, 3, 2 * 250_705 + 251, 2 * 192_850 + 193),
        (DAY + timedelta(days=1), 0, -250_705, 0),
    ]
    books.assert_right(customer)


def test_answer_whose_price_is_not_there_counts_as_revenue(clock: LedgerClock) -> None:
    customer = books.funded(RUB)
    clock.stand_at(NOON)
    with transaction.atomic():
        row = books.usage_row(700) | {"price_version_id": 10**15}
        books.settle(customer, books.held(customer, 700), 700, usage=[row])

        costs._refresh_day(DAY)

        assert days_of(customer) == [(DAY, 1, 700, 0)]
        transaction.set_rollback(True)  # the books are to be right: check V27 tells of such a row


def test_late_run_computes_every_day_it_missed() -> None:
    """The days are found from what is there: after a pause none is left out."""
    newest = CostDay.objects.order_by("-day").values_list("day", flat=True).first()
    CostDay.objects.update_or_create(
        day=date(2040, 1, 1),
        customer_id=uuid7(),
        model="tests/late",
        defaults={"requests": 0, "revenue_micro_rub": 0, "cost_micro_rub": 0},
    )
    try:
        due = costs._days_due(datetime(2040, 1, 5, 20, 59, tzinfo=UTC))
    finally:
        CostDay.objects.filter(model="tests/late").delete()

    assert newest is None or newest < due[0]
    assert [day.day for day in due] == [31, 1, 2, 3, 4, 5]


def test_job_brings_days_and_risks_up_to_date_once_a_slot(sold: dict[str, Any]) -> None:
    user = factories.customer()
    books.topped_up(user.id, 20_000 * RUB)
    answer(user.id, sold, 40_000_000)
    slot = str(uuid7())

    assert (tasks.refresh_costs(slot=slot), tasks.refresh_costs(slot=slot)) == ("done", "skipped")

    risk = CustomerRisk.objects.get(pk=user.id)
    assert (risk.level, risk.reasons) == ("medium", ["fast_spending"])
    assert risk.revenue_micro_rub - risk.cost_micro_rub == 10_028_200_000 - 7_714_000_000
    assert (risk.topped_up_micro_rub, risk.requests) == (20_000 * RUB, 1)
    with transaction.atomic():
        ledger.charge_back(
            customer_id=user.id,
            payment_id=uuid7(),
            dispute_id=str(uuid7()),
            amount_micro_rub=15_000 * RUB,
            effective_at=real_clock.now(),
        )
    costs.refresh(now=real_clock.now())
    risk.refresh_from_db()
    assert (risk.level, risk.reasons) == ("high", ["dispute", "refunds", "fast_spending"])
    assert risk.refunded_micro_rub == 15_000 * RUB  # what was there and what is owed
    books.assert_right(user.id)


@pytest.mark.parametrize(
    ("facts", "level", "reasons"),
    [
        (Facts(), Level.LOW, []),
        (Facts(revenue_micro_rub=130 * RUB, cost_micro_rub=100 * RUB), Level.LOW, []),
        (Facts(revenue_micro_rub=9 * RUB, cost_micro_rub=10 * RUB - 1), Level.LOW, []),  # too little to say
        (Facts(revenue_micro_rub=9 * RUB, cost_micro_rub=10 * RUB), Level.HIGH, [Reason.LOSS]),
        (Facts(revenue_micro_rub=104 * RUB, cost_micro_rub=100 * RUB), Level.MEDIUM, [Reason.THIN_MARGIN]),
        (Facts(revenue_micro_rub=106 * RUB, cost_micro_rub=100 * RUB), Level.LOW, []),
        (Facts(topped_up_micro_rub=100, refunded_micro_rub=50), Level.MEDIUM, [Reason.REFUNDS]),
        (Facts(topped_up_micro_rub=100, refunded_micro_rub=49), Level.LOW, []),
        (Facts(refunded_micro_rub=1), Level.MEDIUM, [Reason.REFUNDS]),  # of a top-up before these days
        (Facts(revenue_micro_rub=3000 * RUB, age_days=0), Level.MEDIUM, [Reason.FAST_SPENDING]),
        (Facts(revenue_micro_rub=5999 * RUB, age_days=2), Level.LOW, []),
        (Facts(revenue_micro_rub=10**6 * RUB, age_days=30), Level.LOW, []),
        (
            Facts(revenue_micro_rub=3000 * RUB, age_days=1, topped_up_micro_rub=2, refunded_micro_rub=1),
            Level.HIGH,
            [Reason.REFUNDS, Reason.FAST_SPENDING],
        ),
        (Facts(has_dispute=True, refunded_micro_rub=1), Level.HIGH, [Reason.DISPUTE, Reason.REFUNDS]),
    ],
)
def test_risk_follows_the_written_rules(facts: Facts, level: Level, reasons: list[Reason]) -> None:
    assert costs.judge(facts) == (level, reasons)


def test_report_filters_and_sums(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    customer, other = uuid7(), uuid7()
    for day, who, model, revenue in (
        (1, customer, "tests/a", 200),
        (1, other, "tests/b", 100),
        (3, customer, "tests/a", 50),
    ):
        CostDay.objects.create(
            day=date(2035, 5, day),
            customer_id=who,
            model=model,
            requests=1,
            revenue_micro_rub=revenue * RUB,
            cost_micro_rub=100 * RUB,
        )
    client.force_login(factories.operator("finance"))

    def page(**query: str) -> str:
        found = client.get("/admin/billing/costday/", {"from": "2035-05-01", "to": "2035-05-03", **query})
        assert found.status_code == 200
        return found.content.decode().replace("\u00a0", " ")

    whole = page()
    assert "350,00 ₽" in whole
    assert "−50,00 ₽" in whole  # the margin of the last day
    assert 'class="day-bars"' in whole
    assert "tests/b" in page(by="model")
    assert str(other) in page(by="customer_id", model="tests/b")
    assert "100,00 ₽" in page(customer=str(other))
    assert "ещё не посчитаны" in page(customer=str(uuid7()))
    for query in (
        {"from": "x", "to": "2035-99-99", "by": "x"},
        {"customer": "x"},
        {"from": "0001-01-01"},
        {"to": "0001-01-01"},
    ):
        assert client.get("/admin/billing/costday/", query).status_code == 200
    risk = CustomerRisk.objects.create(
        customer_id=customer,
        level="high",
        reasons=["loss"],
        requests=2,
        revenue_micro_rub=250 * RUB,
        cost_micro_rub=300 * RUB,
        topped_up_micro_rub=0,
        refunded_micro_rub=0,
        computed_at=NOON,
    )
    listed = client.get("/admin/billing/customerrisk/", {"q": str(customer)}).content.decode()
    assert "ответы стоят дороже, чем приносят" in listed
    assert client.get(f"/admin/billing/customerrisk/{risk.pk}/change/").status_code == 200
    client.force_login(factories.operator("support"))
    monkeypatch.setitem(roles.MAY_VIEW, "support", frozenset({"accounts"}))
    assert client.get("/admin/billing/costday/").status_code == 403
    client.force_login(factories.customer())
    assert client.get("/admin/billing/costday/").status_code == 302
