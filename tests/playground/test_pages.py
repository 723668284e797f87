"""Pages that need no engine: each opens for its owner, sends visitors to the entrance and strangers away."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from accounts.models import User
from orchestration import catalogue
from orchestration.models import Run
from playground import queries, threads
from playground.models import Message
from plyrum import clock
from plyrum.ids import uuid7
from tests import factories
from tests.playground.conftest import RUB, credited
from tests.playground.runs import COST, make_attempt, make_run, make_usage, pay_for

OWN_PAGES = ("/app", "/app/chat", "/app/usage")


@pytest.fixture
def user(client: Client) -> User:
    """A customer who is signed in to the site."""
    person = factories.customer()
    client.force_login(person)
    return person


def _html(client: Client, path: str, **query: str) -> str:
    answer = client.get(path, query)
    assert answer.status_code == 200, answer.status_code
    return answer.content.decode()


def _answered(user: User, text: str = "Вопрос?", answer: str = "Ответ **модели**") -> tuple[Message, Run]:
    asked = threads.ask(
        customer_id=user.id, thread_id=None, text=text, model="sandbox/small", key=uuid4(), now=clock.now()
    )
    run = make_run(user, key=queries.run_key(asked.question_id), text=answer)
    make_attempt(run)
    threads.attach_run(answer_id=asked.answer_id, run_id=run.id)
    return Message.objects.get(pk=asked.answer_id), run


def test_landing_shows_models_with_prices(client: Client) -> None:
    html = _html(client, "/")

    assert "sandbox-small" in html
    assert "31,20\u00a0₽" in html  # 24 roubles a million, times 1.3
    assert "Without keys" not in html


def test_landing_has_an_english_copy(client: Client) -> None:
    assert _html(client, "/en/").count("<h1") == 1


@pytest.mark.parametrize("path", OWN_PAGES)
def test_visitor_is_sent_to_the_entrance(client: Client, path: str) -> None:
    answer = client.get(path)

    assert answer.status_code == 302
    assert answer["Location"] == f"/login?next={path}"


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize("path", OWN_PAGES)
def test_page_of_a_new_customer_has_its_empty_state(client: Client, path: str) -> None:
    html = _html(client, path)

    assert html.count("<h1") == 1
    assert "error-box" not in html.partition("<template")[0]


@pytest.mark.usefixtures("user")
def test_overview_leads_a_new_customer_to_the_first_steps(client: Client) -> None:
    html = _html(client, "/app")

    assert "Пополнить баланс" in html
    assert "Задать первый вопрос" in html
    assert "Запросов ещё не было" in html


def test_overview_shows_balance_runs_and_spend(client: Client, user: User) -> None:
    credited(user, 12 * RUB)
    _answer, run = _answered(user, "Почему небо голубое?")
    pay_for(user, run.id)

    html = _html(client, "/app")

    assert "11,62\u00a0₽" in html
    assert "Почему небо голубое?" in html
    assert "За 30 дней — 0,3759\u00a0₽" in html


def test_new_chat_offers_models_and_starters(client: Client, user: User) -> None:
    html = _html(client, "/app/chat")

    assert '<option value="auto" selected' in html
    assert '<option value="sandbox/small"' in html
    assert "data-starter" in html
    assert "сейчас недоступна" in html  # the model without keys


def test_thread_shows_what_was_said_and_what_it_cost(client: Client, user: User) -> None:
    answer, run = _answered(user, "<b>Вопрос</b>")

    html = _html(client, f"/app/chat/{answer.thread_id}")

    assert "&lt;b&gt;Вопрос&lt;/b&gt;" in html
    assert "<strong>модели</strong>" in html
    assert f"/app/requests/{run.id}" in html
    assert "0,42\u00a0₽" in html
    assert "data-events-url" not in html.partition("<template")[0]


def test_running_answer_is_read_from_its_events(client: Client, user: User) -> None:
    answer, run = _answered(user)
    Run.objects.filter(pk=run.pk).update(state="running", finished_at=None, cost_micro_rub=0)

    html = _html(client, f"/app/chat/{answer.thread_id}")

    assert f'data-events-url="/app/chat/runs/{run.id}/events"' in html
    assert 'http-equiv="refresh"' in html


def test_answer_that_was_never_asked_says_that_nothing_was_charged(client: Client, user: User) -> None:
    asked = threads.ask(
        customer_id=user.id, thread_id=None, text="Вопрос", model="auto", key=uuid4(), now=clock.now()
    )

    assert "Деньги не списаны" in _html(client, f"/app/chat/{asked.thread_id}")


def test_answer_whose_text_is_gone_says_so(client: Client, user: User) -> None:
    answer, run = _answered(user)
    gone = make_run(user)
    Message.objects.filter(pk=answer.pk).update(run_id=gone.id)

    assert "больше не хранится" in _html(client, f"/app/chat/messages/{answer.id}")
    assert run.id != gone.id


def test_long_thread_opens_at_its_end_with_a_way_back(client: Client, user: User) -> None:
    first, _run = _answered(user, "вопрос номер 0")
    for number in range(1, 12):
        threads.ask(
            customer_id=user.id,
            thread_id=first.thread_id,
            text=f"вопрос номер {number}.",
            model="auto",
            key=uuid4(),
            now=clock.now(),
        )
    path = f"/app/chat/{first.thread_id}"

    newest, older = _html(client, path), _html(client, path, before="5")

    assert f"{path}?before=5" in newest
    assert "вопрос номер 11." in newest
    assert "вопрос номер 1." not in newest
    assert "вопрос номер 1." in older
    assert client.get(path, {"before": "x"}).status_code == 200


def test_message_is_the_same_as_in_its_thread(client: Client, user: User) -> None:
    answer, _run = _answered(user)

    html = _html(client, f"/app/chat/messages/{answer.id}").strip()

    assert html.startswith("<li")
    assert "<strong>модели</strong>" in html


def test_why_page_explains_from_stored_facts(client: Client, user: User) -> None:
    answer, run = _answered(user)
    make_attempt(
        run, number=1, model="sandbox/large", status="failed", error_class="overloaded", cost_micro_rub=0
    )

    html = _html(client, f"/app/requests/{run.id}")

    assert "Не ответили: sandbox-large; за это ничего не списали. Ответила модель sandbox-small." in html
    assert "перегружена" in html
    assert "нет связи с провайдером" in html
    assert "0,7" in html
    assert "1,02\u00a0₽" in html
    assert f"/app/wallet#entry-{run.ledger_entry_id}" in html
    assert f"/app/chat/{answer.thread_id}" in html


def test_why_page_as_a_fragment_is_the_panel_alone(client: Client, user: User) -> None:
    _answer, run = _answered(user)

    html = _html(client, f"/app/requests/{run.id}", fragment="1")

    assert "<html" not in html
    assert "Почему такой маршрут" in html


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"state": "running", "finished_at": None, "cost_micro_rub": 0}, "Ответ готовится"),
        ({"state": "stopped"}, "Вы остановили ответ модели sandbox-small"),
        ({"state": "stopped", "cost_micro_rub": 0}, "ничего не списано"),
        ({"state": "failed", "error_code": "worker_lost"}, "оборвался, списано 0,42\u00a0₽"),
        ({"state": "failed", "error_code": "overloaded", "cost_micro_rub": 0}, "Ответа нет: перегружена."),
        ({"state": "refused", "cost_micro_rub": 0, "hold_micro_rub": 0}, "на балансе не хватило денег"),
        ({"model": "gone/model", "route": {}}, "Ответила модель gone/model"),
    ],
)
def test_why_page_has_a_sentence_for_every_end(
    client: Client, user: User, facts: dict[str, Any], words: str
) -> None:
    assert words in _html(client, f"/app/requests/{make_run(user, **facts).id}")


def test_pages_of_somebody_else_do_not_exist(client: Client, user: User) -> None:
    answer, run = _answered(factories.stranger())

    for path in (
        f"/app/chat/{answer.thread_id}",
        f"/app/chat/messages/{answer.id}",
        f"/app/requests/{run.id}",
        f"/app/chat/{uuid7()}",
    ):
        assert client.get(path).status_code == 404, path
    for path in (f"/app/chat/runs/{run.id}/stop", f"/app/chat/runs/{uuid7()}/stop"):
        assert client.post(path).status_code == 404
    assert client.get(f"/app/chat/runs/{run.id}/events").json()["code"] == "not_found"
    assert Run.objects.get(pk=run.pk).customer_id != user.id


def test_usage_shows_rows_totals_and_days(client: Client, user: User) -> None:
    row = make_usage(user)
    make_usage(user, days_ago=3, charged_micro_rub=2 * RUB)
    make_usage(user, days_ago=60, charged_micro_rub=RUB)

    html = _html(client, "/app/usage")

    assert f"/app/requests/{row.run_id}" in html
    assert "3,42\u00a0₽" in html  # all of it
    assert "За эти дни 2,42\u00a0₽" in html  # the thirty days of the chart
    assert "sandbox-small" in html


def test_usage_is_filtered_by_days_and_model(client: Client, user: User) -> None:
    make_usage(user, model="sandbox/large", charged_micro_rub=7 * RUB)
    old = make_usage(user, days_ago=10)
    day = (clock.now() - timedelta(days=10, hours=-3)).date().isoformat()

    by_day = _html(client, "/app/usage", **{"from": day, "to": day})
    by_model = _html(client, "/app/usage", model="sandbox/large")
    nothing = _html(client, "/app/usage", model="нет такой")

    assert str(old.run_id) in by_day
    assert "7,00\u00a0₽" not in by_day
    assert str(old.run_id) not in by_model
    assert "Под отбор ничего не подошло" in nothing


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"from": "вчера"}, "ГГГГ-ММ-ДД"),
        ({"from": "2026-02-02", "to": "2026-01-01"}, "Поменяйте даты местами"),
        ({"to": "0001-01-01"}, "ГГГГ-ММ-ДД"),
    ],
)
def test_usage_says_what_is_wrong_with_a_filter(client: Client, query: dict[str, str], words: str) -> None:
    answer = client.get("/app/usage", query)

    assert answer.status_code == 422
    assert words in answer.content.decode()


def test_usage_pages_on_by_cursor(client: Client, user: User) -> None:
    rows = [make_usage(user, days_ago=number) for number in range(23)]

    first = _html(client, "/app/usage")
    address = first.partition('href="/app/usage?cursor=')[2].partition('"')[0]
    second = _html(client, "/app/usage", cursor=address)

    shown = [str(row.run_id) in first for row in rows] + [str(row.run_id) in second for row in rows]
    assert shown.count(True) == 23
    assert client.get("/app/usage", {"cursor": "???"}).status_code == 302


def test_usage_of_somebody_else_is_not_shown(client: Client, user: User) -> None:
    row = make_usage(factories.stranger())

    assert str(row.run_id) not in _html(client, "/app/usage")
    assert row.charged_micro_rub == COST


@pytest.mark.usefixtures("user")
def test_question_without_an_engine_is_refused_and_kept_on_the_page(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "_snapshot", None)  # as in a process that has just begun
    form = {"text": "Мой вопрос", "model": "auto", "idempotency_key": str(uuid4())}

    page = client.post("/app/chat", form)
    problem = client.post("/app/chat", form, headers={"Accept": "application/json"})

    assert page.status_code == problem.status_code == 503
    assert "Мой вопрос" in page.content.decode()
    assert problem["Content-Type"] == "application/problem+json"
    assert not Message.objects.filter(text="Мой вопрос", customer_id=_id(client)).exists()


def _id(client: Client) -> str:
    return str(client.session["_auth_user_id"])


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"text": "  "}, "Напишите вопрос"),
        ({"text": "я" * 100_001}, "Напишите вопрос"),
        ({"text": "а\0б"}, "Напишите вопрос"),
        ({"text": "а", "model": "x" * 101}, "Выберите модель"),
        ({"text": "а", "idempotency_key": "нет"}, "Страница устарела"),
    ],
)
def test_wrong_form_says_what_is_wrong(client: Client, form: dict[str, str], words: str) -> None:
    sent = {"model": "auto", "idempotency_key": str(uuid4())} | form

    problem = client.post("/app/chat", sent, headers={"Accept": "application/json"})
    page = client.post("/app/chat", sent)

    assert (problem.status_code, problem.json()["code"]) == (422, "validation_failed")
    assert words in problem.json()["title"]
    assert words in page.content.decode()


def test_signed_out_script_is_told_so_in_its_own_form(client: Client) -> None:
    headers = {"Accept": "application/json"}
    run_id = uuid7()

    asked = client.post("/app/chat", {"text": "а"}, headers=headers)

    assert (asked.status_code, asked.json()["code"]) == (401, "unauthenticated")
    assert client.get(f"/app/chat/runs/{run_id}/events").status_code == 401
    assert client.post("/app/chat/estimate", {"text": "а"}).status_code == 401
    assert client.post(f"/app/chat/runs/{run_id}/stop", headers=headers).status_code == 401
    assert client.post(f"/app/chat/runs/{run_id}/stop").status_code == 302


def test_price_is_told_before_sending(client: Client, user: User) -> None:
    form = {"text": "Короткий вопрос", "model": "sandbox/small"}

    poor = client.post("/app/chat/estimate", form).json()
    credited(user, 100 * RUB)
    rich = client.post("/app/chat/estimate", form).json()

    assert rich["text"].startswith("Обычно 0,0")
    assert rich["over_limit"] is False
    assert poor["over_limit"] is True
    assert "На балансе 0\u00a0₽" in poor["text"]


def test_price_counts_the_history_of_the_thread(client: Client, user: User) -> None:
    answer, _run = _answered(user, answer="слово " * 2000)
    form = {"text": "Дальше", "model": "sandbox/small"}

    alone = client.post("/app/chat/estimate", form).json()["text"]
    whole = client.post("/app/chat/estimate", form | {"thread": str(answer.thread_id)}).json()["text"]

    assert alone != whole
    strangers = _answered(factories.stranger())[0]
    for thread in (str(strangers.thread_id), "x"):
        assert client.post("/app/chat/estimate", form | {"thread": thread}).status_code == 404


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize(
    ("form", "status", "code"),
    [
        ({"text": "", "model": "auto"}, 422, "validation_failed"),
        ({"text": "а", "model": "нет/такой"}, 422, "model_not_found"),
        ({"text": "а", "model": "keyless/model"}, 503, "no_route"),
    ],
)
def test_price_of_what_cannot_be_asked_is_refused(
    client: Client, form: dict[str, str], status: int, code: str
) -> None:
    answer = client.post("/app/chat/estimate", form)

    assert (answer.status_code, answer.json()["code"]) == (status, code)


@pytest.mark.usefixtures("user")
def test_wrong_place_in_a_story_is_refused(client: Client, user: User) -> None:
    run, script = make_run(user), {"Accept": "application/json"}

    assert client.get(f"/app/chat/runs/{run.id}/events?after_seq=-1").status_code == 422
    assert client.post(f"/app/chat/runs/{run.id}/stop", headers=script).status_code == 204  # over
