"""Launch checks of money: silent when all is right, and an id with a remedy for each thing that is not."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.core.checks import CheckMessage, registry
from django.db import connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from pytest_django import Settings

from billing import checks
from billing.models import FxRate, LotKind, PriceVersion
from plyrum import clock
from plyrum.ids import uuid7
from tests.billing import books

DATABASES = ["default"]


@pytest.fixture
def currency() -> Iterator[str]:
    """A currency that only this test sells in; it has a rate when the test is over."""
    name = books.currency()
    PriceVersion.objects.create(
        sku=f"tests/{uuid7()}",
        number=1,
        currency=name,
        input=1,
        cached_input=1,
        cache_write=1,
        output=1,
        markup_bp=10_000,
        valid_from=clock.now(),
    )
    yield name
    FxRate.objects.create(
        currency=name, micro_rub=1, source=uuid7().hex, rate_date=clock.now().date() + timedelta(days=9999)
    )


@pytest.fixture
def weak_guard(owner: BaseDatabaseWrapper) -> Iterator[None]:
    with owner.cursor() as cursor:
        cursor.execute("ALTER FUNCTION ledger_lock(uuid[]) SECURITY INVOKER")
        yield
        cursor.execute("ALTER FUNCTION ledger_lock(uuid[]) SECURITY DEFINER")


def ids(found: list[CheckMessage], words: str) -> list[str | None]:
    return [message.id for message in found if words in str(message.msg)]


def test_checks_are_registered_for_the_launch() -> None:
    known = registry.registry.get_checks(include_deployment_checks=True)

    for check in (checks.runs_need_money, checks.database_guards_money, checks.prices_can_be_computed):
        assert check in known
        assert "launch" in check.tags


@pytest.mark.parametrize(
    ("production", "enforced", "found"),
    [(True, True, []), (True, False, ["billing.E001"]), (False, False, [])],
)
def test_production_demands_money_for_runs(
    settings: Settings, production: bool, enforced: bool, found: list[str]
) -> None:
    settings.IS_PRODUCTION = production
    settings.PLYRUM_BILLING_ENFORCE_BALANCE = enforced

    assert [message.id for message in checks.runs_need_money()] == found


def test_guards_in_place_are_not_mentioned() -> None:
    assert checks.database_guards_money(databases=DATABASES) == []


@pytest.mark.usefixtures("weak_guard")
def test_weak_guard_is_an_error() -> None:
    (message,) = checks.database_guards_money(databases=DATABASES)

    assert message.id == "billing.E002"
    assert "ledger_lock" in message.msg
    assert message.hint


def test_checks_of_rows_run_only_with_a_database() -> None:
    assert checks.database_guards_money() == []
    assert checks.prices_can_be_computed() == []


def test_currency_without_a_rate_is_an_error(currency: str) -> None:
    found = checks.prices_can_be_computed(databases=DATABASES)

    assert ids(found, currency) == ["billing.E003"]


@pytest.mark.parametrize(("days", "found"), [(0, []), (4, []), (5, ["billing.E004"])])
def test_old_rate_is_an_error(currency: str, days: int, found: list[str]) -> None:
    FxRate.objects.create(
        currency=currency,
        micro_rub=1,
        source="tests",
        rate_date=clock.now().date() - timedelta(days=days),
    )

    assert ids(checks.prices_can_be_computed(databases=DATABASES), currency) == found


def test_gifts_need_a_budget_only_when_there_are_some() -> None:
    books.credit(uuid7(), 1, kind=LotKind.BONUS)
    with transaction.atomic(), connection.cursor() as cursor:
        told = [message.id for message in checks.gifts_have_a_budget(databases=DATABASES)]
        cursor.execute("SET LOCAL ROLE NONE")
        cursor.execute("UPDATE billing_lot SET is_spent = true WHERE kind = 'bonus'")

        assert (told, checks.gifts_have_a_budget(databases=DATABASES)) == (["billing.W001"], [])
        transaction.set_rollback(True)


def test_connection_is_still_the_applications() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user")
        assert cursor.fetchone() == ("plyrum_app",)
