"""Back office of money: everything is found and linked, nothing can be changed."""

import re
from collections.abc import Iterator
from datetime import date, timedelta
from uuid import UUID

import pytest
from django.db import transaction
from django.test import Client
from django.utils.formats import date_format
from django.utils.timezone import localtime

from accounts.models import User
from auditlog.actors import Actor
from billing import alerts, daily_roots, ledger, prices
from billing.models import Account, DailyRoot, FxRate, LotKind, SystemEntryType, UsageEvent, VatRate
from plyrum import clock as real_clock
from plyrum.ids import uuid7
from tests import factories
from tests.billing import books
from tests.billing.books import RUB
from tests.billing.fixtures import LedgerClock

NBSP = "\u00a0"
PAGES = (
    "wallet", "ledgerentry", "creditlot", "hold", "usageevent", "priceversion", "fxrate", "vatrate",
    "dailyroot", "balancealert",
)  # fmt: skip


@pytest.fixture
def operator(client: Client) -> User:
    """An owner who is signed in to the back office."""
    found = factories.operator()
    client.force_login(found)
    return found


class Story:
    """A customer with money, a hold under way and one paid answer."""

    def __init__(self) -> None:
        self.customer = factories.customer()
        self.customer_id: UUID = self.customer.id
        books.credit(self.customer_id, 20 * RUB, kind=LotKind.BONUS, expires_at=books.in_seconds(3600))
        books.credit(self.customer_id, 500 * RUB)
        self.entry = books.spend(self.customer_id, RUB)
        self.hold = books.held(self.customer_id, 4 * RUB)
        self.rate = FxRate.objects.create(
            currency=books.currency(),
            micro_rub=95_500_000,
            spread_bp=150,
            source=uuid7().hex,
            rate_date=real_clock.now().date(),
        )
        alerts.set_threshold(
            customer_id=self.customer_id,
            micro_rub=700 * RUB,
            now=real_clock.now(),
            actor=Actor.customer(self.customer_id),
        )
        nothing_before = daily_roots.recompute(date(2001, 1, 1))
        self.root, _ = DailyRoot.objects.get_or_create(
            day=nothing_before.day,
            defaults={"root": bytes.fromhex(nothing_before.digest), "wallets": 0, "entries": 0},
        )

    def keys(self) -> dict[str, object]:
        return {
            "wallet": self.customer_id,
            "ledgerentry": self.entry,
            "creditlot": books.lots(self.customer_id)[0].pk,
            "hold": self.hold,
            "usageevent": UsageEvent.objects.get(ledger_entry_id=self.entry).pk,
            "priceversion": books.price().version_id,
            "fxrate": self.rate.pk,
            "vatrate": VatRate.objects.earliest("valid_from").pk,
            "dailyroot": self.root.day,
            "balancealert": self.customer_id,
        }


@pytest.fixture(scope="module")
def story(_price: None) -> Iterator[Story]:
    found = Story()
    yield found
    books.settle(found.customer_id, found.hold, 0)


def page(client: Client, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200, answer.status_code
    return answer.content.decode().replace(NBSP, " ")


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.usefixtures("operator")
def test_lists_and_rows_open(client: Client, story: Story, name: str) -> None:
    key = story.keys()[name]

    assert str(key) in page(client, f"/admin/billing/{name}/{key}/change/")
    page(client, f"/admin/billing/{name}/")
    page(client, f"/admin/billing/{name}/?q=nothing+like+this")


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.usefixtures("operator")
def test_nothing_can_be_added_changed_or_deleted(client: Client, story: Story, name: str) -> None:
    key = story.keys()[name]

    assert client.get(f"/admin/billing/{name}/add/").status_code == 403
    assert client.post(f"/admin/billing/{name}/{key}/change/", {"seq": "9"}).status_code == 403
    assert client.post(f"/admin/billing/{name}/{key}/delete/", {"post": "yes"}).status_code == 403
    assert client.post(f"/admin/billing/{name}/", {"action": "delete_selected"}).status_code in (
        200,
        302,
        403,
    )
    books.assert_right(story.customer_id)


@pytest.mark.parametrize("name", PAGES)
def test_customer_and_visitor_are_kept_out(client: Client, story: Story, name: str) -> None:
    assert client.get(f"/admin/billing/{name}/").status_code == 302
    client.force_login(story.customer)
    assert client.get(f"/admin/billing/{name}/").status_code == 302


@pytest.mark.usefixtures("operator")
def test_pages_of_what_watches_over_money_say_it_in_words(client: Client, story: Story) -> None:
    assert "22 %" in page(client, "/admin/billing/vatrate/")
    assert bytes(story.root.root).hex() in page(client, "/admin/billing/dailyroot/")
    shown = page(client, f"/admin/billing/balancealert/?q={story.customer_id}")
    assert "700,00 ₽" in shown
    assert story.customer.email in shown


@pytest.mark.usefixtures("operator")
def test_wallet_shows_balance_reserve_and_lots_in_spend_order(client: Client, story: Story) -> None:
    shown = page(client, f"/admin/billing/wallet/{story.customer_id}/change/")
    bonus, paid = books.lots(story.customer_id)

    assert "519,00 ₽" in shown
    assert "4,00 ₽" in shown
    assert f"/admin/accounts/user/{story.customer_id}/change/" in shown
    assert shown.index(f"/admin/billing/creditlot/{paid.pk}/") < shown.index(
        f"/admin/billing/creditlot/{bonus.pk}/"
    )
    assert f"/admin/billing/ledgerentry/?q={story.customer_id}" in shown
    assert f"/admin/billing/hold/?q={story.customer_id}" in shown


@pytest.mark.usefixtures("operator")
def test_empty_wallet_has_no_lots(client: Client) -> None:
    customer = factories.customer()

    assert "creditlot/" not in page(client, f"/admin/billing/wallet/{customer.id}/change/")


@pytest.mark.usefixtures("operator")
def test_list_of_wallets_shows_what_is_held(client: Client, story: Story) -> None:
    shown = page(client, f"/admin/billing/wallet/?q={story.customer_id}")

    assert "519,00 ₽" in shown
    assert "4,00 ₽" in shown


@pytest.mark.usefixtures("operator")
def test_entry_leads_to_customer_run_hold_and_lots(client: Client, story: Story) -> None:
    shown = page(client, f"/admin/billing/ledgerentry/{story.entry}/change/")
    entry = books.entries(story.customer_id)[-1]

    for address in (
        f"/admin/accounts/user/{story.customer_id}/change/",
        f"/admin/orchestration/run/{entry.source_id}/change/",
        f"/admin/billing/hold/{entry.hold_id}/change/",
        f"/admin/billing/creditlot/{entry.lot_ids[0]}/change/",
    ):
        assert address in shown
    assert "−1,00 ₽" in shown
    assert date_format(localtime(entry.created_at), "DATETIME_FORMAT") in shown


@pytest.mark.parametrize("by", ["id", "key", "source_id", "customer_id"])
@pytest.mark.usefixtures("operator")
def test_entry_is_found_by_id_key_source_and_customer(client: Client, story: Story, by: str) -> None:
    entry = books.entries(story.customer_id)[-1]

    answer = client.get("/admin/billing/ledgerentry/", {"q": str(getattr(entry, by))})

    assert str(story.entry) in answer.content.decode()
    found = answer.context["cl"].queryset
    assert {row.customer_id for row in found} == {story.customer_id}


@pytest.mark.usefixtures("operator")
def test_entries_are_filtered_by_type_and_day(client: Client, story: Story) -> None:
    an_hour_ago = real_clock.now() - timedelta(hours=1)
    query = {"q": str(story.customer_id), "type__exact": "bonus"}

    def found(**more: str) -> list[str]:
        answer = client.get("/admin/billing/ledgerentry/", {**query, **more})
        return [row.type for row in answer.context["cl"].queryset]

    assert found(created_at__gte=str(an_hour_ago)) == ["bonus"]
    assert found(created_at__lt=str(an_hour_ago)) == []


@pytest.mark.usefixtures("operator")
def test_movement_between_system_accounts_is_nobodys(client: Client) -> None:
    entry, payout = uuid7(), uuid7().hex
    with transaction.atomic():
        ledger.book(
            entry_id=entry,
            type=SystemEntryType.PAYOUT,
            debit_account=Account.BANK,
            credit_account=Account.PROVIDER_CLEARING,
            amount_micro_rub=7 * RUB,
            key=f"payout:{payout}",
            source_type="payout",
            source_id=payout,
            effective_at=real_clock.now(),
        )

    shown = page(client, f"/admin/billing/ledgerentry/{entry}/change/")

    assert "7,00 ₽" in shown
    assert re.search("/admin/accounts/user/[^/]+/change/", shown) is None


@pytest.mark.usefixtures("operator")
def test_old_open_holds_are_found(client: Client, clock: LedgerClock) -> None:
    customer = books.funded(100)
    clock.stand_at(real_clock.now() - timedelta(hours=2))
    old = books.held(customer, 10, ttl_seconds=4 * 3600)
    over = books.held(customer, 10, ttl_seconds=4 * 3600)
    clock.run_on()
    books.settle(customer, over, 0)
    fresh = books.held(customer, 10)

    def found(**query: str) -> set[UUID]:
        answer = client.get("/admin/billing/hold/", {"q": str(customer), **query})
        return {row.pk for row in answer.context["cl"].queryset}

    assert found() == {old, over, fresh}
    assert found(older_than="1h") == {old}
    assert found(older_than="5m") == {old}
    assert found(older_than="1d") == set()
    assert found(status__exact="open") == {old, fresh}
    books.settle(customer, old, 0)
    books.settle(customer, fresh, 0)


@pytest.mark.usefixtures("operator")
def test_prices_are_shown_in_their_currency(client: Client, story: Story) -> None:
    assert "1,00 ₽" in page(client, f"/admin/billing/priceversion/?q={books.SKU}")
    rates = page(client, f"/admin/billing/fxrate/?q={story.rate.source}")
    assert "95,50 ₽" in rates
    assert "1,5 %" in rates


@pytest.mark.parametrize("role", ["support", "finance", "catalogue", "security", "owner"])
def test_every_role_of_operators_may_look(client: Client, role: str) -> None:
    client.force_login(factories.operator(role))

    assert client.get("/admin/billing/ledgerentry/").status_code == 200


@pytest.mark.usefixtures("operator")
def test_price_with_a_tier_says_from_where_it_counts(client: Client) -> None:
    tier = {"above_tokens": 200_000, "input": "4", "cached_input": "0.4", "output": "18"}
    price = {"currency": "USD", "input": "2", "output": "12", "tier": tier}
    with transaction.atomic():
        version = prices.publish(sku=f"tests/{uuid7()}", price=price, markup_bp=13_000, now=real_clock.now())

    shown = page(client, f"/admin/billing/priceversion/{version.pk}/change/")

    assert "от 200 001 токенов" in shown
    assert "18,00 USD" in shown
