"""The back office of runs and of the catalogue: what it shows to whom, and its one kind of act."""

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.test import Client

from accounts.models import User
from auditlog.actors import SYSTEM
from auditlog.models import AuditEvent
from orchestration import catalogue, switching
from orchestration.errors import AlreadySwitched
from orchestration.models import CatalogueVersion, Model, Provider
from playground import back_office
from plyrum import clock
from plyrum.errors import NotFound
from plyrum.ids import uuid7
from tests import factories
from tests.playground.runs import make_attempt, make_run

LISTS = ("run", "attempt", "catalogueversion", "model", "provider")
REASON = "Провайдер меняет договор"
FORM = {"_form_submitted": "True", "reason": REASON}


@pytest.fixture
def owner(client: Client) -> User:
    """An owner who is signed in to the back office."""
    operator = factories.operator("owner")
    client.force_login(operator)
    return operator


@pytest.fixture
def model() -> Model:
    """A model of its own provider, which nobody else's test asks."""
    name = uuid7().hex
    provider = Provider.objects.create(
        id=f"test-{name}", label="Т", wire="openai_chat", base_url="http://127.0.0.1:9/v1", country="RU"
    )
    return Model.objects.create(
        id=f"test/{name}",
        provider=provider,
        upstream_id="x",
        label="Т",
        description_ru="",
        capabilities=["text"],
        context_tokens=1000,
        max_output_tokens=100,
        quality=0.1,
        privacy_tier="standard",
        hosted_region="RU",
    )


def test_runs_name_and_find_their_customer_for_those_who_may_see_people(client: Client) -> None:
    customer = factories.customer()
    run = make_run(customer)
    for role, sees in (("support", True), ("catalogue", False)):
        client.force_login(factories.operator(role))

        by_id = client.get("/admin/orchestration/run/", {"q": str(customer.id)}).content.decode()
        by_email = client.get("/admin/orchestration/run/", {"q": customer.email.upper()}).content.decode()

        assert str(run.id) in by_id
        assert (customer.email in by_id, str(run.id) in by_email) == (sees, sees), role


def _page(client: Client, path: str, **query: str) -> str:
    answer = client.get(f"/admin/{path}", query)
    assert answer.status_code == 200, answer.status_code
    return answer.content.decode()


def _path(row: Model | Provider) -> str:
    return f"/admin/orchestration/{row._meta.model_name}/{row.pk.replace('/', '_2F')}"


@pytest.mark.usefixtures("owner")
@pytest.mark.parametrize("name", LISTS)
def test_lists_and_searches_open_and_nothing_can_be_added(client: Client, name: str) -> None:
    make_attempt(make_run(factories.customer()))

    _page(client, f"orchestration/{name}/")
    _page(client, f"orchestration/{name}/", q="нет такого")
    assert client.get(f"/admin/orchestration/{name}/add/").status_code == 403


@pytest.mark.usefixtures("owner")
def test_run_is_found_by_its_ids_and_key(client: Client) -> None:
    run, other = make_run(factories.customer()), make_run(factories.stranger())

    for term in (run.id, run.customer_id, run.idempotency_key):
        page = _page(client, "orchestration/run/", q=f" {term} ")
        assert f"/run/{run.id}/" in page
        assert f"/run/{other.id}/" not in page


@pytest.mark.usefixtures("owner")
@pytest.mark.parametrize("query", [{"state__exact": "done"}, {"surface__exact": "site"}])
def test_runs_are_filtered(client: Client, query: dict[str, str]) -> None:
    run = make_run(factories.customer())

    assert f"/run/{run.id}/" in _page(client, "orchestration/run/", **query)


@pytest.mark.usefixtures("owner")
def test_page_of_a_run_explains_route_attempts_and_money(client: Client) -> None:
    run = make_run(factories.customer(), hold_micro_rub=1_020_001)
    make_attempt(run, model="sandbox/large", status="failed", error_class="overloaded", http_status=503)
    attempt = make_attempt(run, number=2)

    page = _page(client, f"orchestration/run/{run.id}/change/")

    assert "Не ответили: sandbox/large" in page
    assert "перегружена" in page
    assert "нет связи с провайдером" in page
    assert "0,42\u00a0₽" in page
    assert "1,020001\u00a0₽" in page
    assert f"/admin/billing/ledgerentry/{run.ledger_entry_id}/change/" in page
    assert f"/admin/accounts/user/{run.customer_id}/change/" in page
    assert f"/admin/orchestration/attempt/{attempt.id}/change/" in page
    _page(client, f"orchestration/attempt/{attempt.id}/change/")


@pytest.mark.usefixtures("owner")
@pytest.mark.parametrize(
    "facts",
    [
        {"state": "running", "finished_at": None, "cost_micro_rub": 0},
        {"state": "refused", "hold_micro_rub": 0, "cost_micro_rub": 0, "route": {}},
        {"state": "failed", "error_code": "worker_lost", "cost_micro_rub": 0},
    ],
)
def test_page_of_an_unhappy_run_opens(client: Client, facts: dict[str, Any]) -> None:
    run = make_run(factories.customer(), **facts)

    _page(client, f"orchestration/run/{run.id}/change/")
    _page(client, "orchestration/run/", q=str(run.id))


@pytest.mark.parametrize("kind", ["model", "provider"])
def test_switching_asks_for_a_reason_and_is_journalled(
    client: Client, owner: User, model: Model, kind: str
) -> None:
    row = model if kind == "model" else model.provider
    path = _path(row)
    before = catalogue.refresh()

    opened = client.get(f"{path}/disable/")
    short = client.post(f"{path}/disable/", FORM | {"reason": "так"})
    row.refresh_from_db()
    was_enabled = row.is_enabled
    answer = client.post(f"{path}/disable/", FORM)

    row.refresh_from_db()
    assert (opened.status_code, short.status_code, answer.status_code) == (200, 200, 302)
    assert (was_enabled, row.is_enabled) == (True, False)
    event = AuditEvent.objects.get(action=f"orchestration.{kind}.disabled", subject=f"{kind}:{row.pk}")
    assert (event.actor_kind, event.actor_id) == ("operator", str(owner.id))
    assert event.data["reason"] == REASON
    after = catalogue.refresh()
    assert after.version > before.version
    assert not after.offers[model.id].is_enabled


@pytest.mark.usefixtures("owner")
def test_only_the_switch_that_changes_something_is_offered(client: Client, model: Model) -> None:
    path = _path(model).removeprefix("/admin/")

    page = _page(client, f"{path}/change/")
    assert "/disable/" in page
    assert "/enable/" not in page
    assert client.post(f"/admin/{path}/enable/", FORM).status_code == 403
    assert client.post(f"/admin/{path}/disable/", FORM).status_code == 302
    assert "/enable/" in _page(client, f"{path}/change/")
    assert client.post(f"/admin/{path}/enable/", FORM).status_code == 302
    model.refresh_from_db()
    assert model.is_enabled


@pytest.mark.parametrize("role", ["support", "finance", "security"])
def test_roles_that_may_only_look_cannot_switch(client: Client, model: Model, role: str) -> None:
    client.force_login(factories.operator(role))

    assert client.post(f"{_path(model)}/disable/", FORM).status_code == 403
    assert "/disable/" not in _page(client, f"{_path(model).removeprefix('/admin/')}/change/")
    model.refresh_from_db()
    assert model.is_enabled


@pytest.mark.usefixtures("owner")
def test_no_switch_is_reachable_by_a_link(client: Client, model: Model) -> None:
    for name in ("disable", "enable"):
        client.get(f"{_path(model)}/{name}/")

    model.refresh_from_db()
    assert model.is_enabled


def test_switching_again_is_refused_and_publishes_nothing(model: Model) -> None:
    switching.switch_model(model_id=model.id, is_enabled=False, reason=REASON, actor=SYSTEM)
    newest = CatalogueVersion.objects.order_by("-number").values_list("number", flat=True).first()

    with pytest.raises(AlreadySwitched):
        switching.switch_model(model_id=model.id, is_enabled=False, reason=REASON, actor=SYSTEM)
    with pytest.raises(NotFound):
        switching.switch_model(model_id="нет", is_enabled=False, reason=REASON, actor=SYSTEM)
    with pytest.raises(NotFound):
        switching.switch_provider(provider_id="нет", is_enabled=True, reason=REASON, actor=SYSTEM)

    assert CatalogueVersion.objects.order_by("-number").values_list("number", flat=True).first() == newest


@pytest.mark.usefixtures("owner")
def test_first_page_shows_money_attention_runs_and_jobs(client: Client) -> None:
    make_run(factories.customer())

    page = _page(client, "")

    for title in (
        "Деньги сегодня",
        "Требует внимания",
        "Запуски за сутки",
        "Резервы старше 10 минут",
        "Модели без свежего курса",
    ):
        assert title in page
    assert "/admin/payments/payment/?status__exact=review" in page
    assert "/admin/orchestration/run/?state__exact=failed" in page


@pytest.mark.usefixtures("owner")
def test_every_number_of_the_first_page_leads_to_its_list(client: Client) -> None:
    page = _page(client, "")

    links = {part.partition('"')[0].replace("&amp;", "&") for part in page.split('href="')[1:]}
    for link in (link for link in links if link.startswith("/admin/") and "?" in link):
        assert client.get(link).status_code == 200, link


def test_first_page_shows_each_role_its_own_part(client: Client) -> None:
    client.force_login(factories.operator("catalogue"))

    page = _page(client, "")

    assert "Запуски за сутки" in page
    assert "Пополнения на проверке" not in page
    assert "Последние задания" not in page


@pytest.mark.usefixtures("owner")
def test_first_page_counts_models_whose_rate_is_too_old(client: Client) -> None:
    with time_machine.travel(clock.now() + timedelta(days=30)):
        unsold = back_office._rates()[0]
    sold = back_office._rates()[0]

    assert unsold["value"] > sold["value"]
    assert unsold["is_bad"]
    assert client.get(unsold["url"]).status_code == 200
