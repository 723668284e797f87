"""The chat from the form to the price, against a real server, engine and sandbox."""

import threading
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest

from accounts.models import User
from billing.models import Hold, LedgerEntry
from orchestration.models import Run
from playground.models import Message, Thread
from tests import factories
from tests.playground.conftest import RUB, Browser, Event, credited

MakeBrowser = Callable[..., Browser]


def _text(events: list[Event]) -> str:
    return "".join(event.data["html"] for event in events if event.name == "html.block")


def _steady(events: list[Event]) -> list[Event]:
    return [event for event in events if event.name != "html.tail"]


def _facts(event: Event) -> tuple[str, int | None, dict[str, Any]]:
    return event.name, event.id, event.data


def _one(events: list[Event], name: str) -> Event:
    (found,) = [event for event in events if event.name == name]
    return found


def test_question_is_answered_shown_and_priced(browser: Browser) -> None:
    begun = browser.begun("Сколько <b>будет</b> два и два?")
    events = browser.events(begun["events_url"])

    assert "&lt;b&gt;будет&lt;/b&gt;" in begun["message_html"]
    assert begun["thread_url"] == f"/app/chat/{begun['thread_id']}"
    names = [event.name for event in events]
    assert names[:2] == ["status", "route"]
    assert names[-1] == "finished"
    price, last = _one(events, "price").data, events[-1].data
    run = Run.objects.get(pk=begun["run_id"])
    assert run.ledger_entry_id is not None
    entry = LedgerEntry.objects.get(pk=run.ledger_entry_id)
    assert price["cost_micro_rub"] == run.cost_micro_rub == entry.amount_micro_rub > 0
    assert price["released_micro_rub"] == run.hold_micro_rub - run.cost_micro_rub
    message = browser.http.get(last["message_url"]).text
    assert _text(events) in message
    assert str(run.id) in message
    assert last["thread_cost_text"] in browser.http.get(begun["thread_url"]).text
    why = browser.http.get(f"/app/requests/{run.id}").text
    assert str(entry.id) in why


def test_english_reader_stays_on_the_english_copy(browser: Browser) -> None:
    begun = browser.begun(path="/en/app/chat")
    events = browser.events(begun["events_url"])

    assert begun["thread_url"].startswith("/en/app/chat/")
    assert begun["events_url"].startswith("/en/")
    assert events[-1].data["message_url"].startswith("/en/app/chat/messages/")
    assert "," not in events[-1].data["thread_cost_text"]
    assert "," not in events[0].data["text"]


def test_events_cannot_be_cached_or_held_back(browser: Browser) -> None:
    answer = browser.http.get(browser.begun()["events_url"])

    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert "no-store" in answer.headers["Cache-Control"]
    assert answer.headers["X-Accel-Buffering"] == "no"


def test_blocks_of_the_stream_are_the_whole_message(browser: Browser) -> None:
    begun = browser.begun("Покажи код и список", model="sandbox/large")
    events = browser.events(begun["events_url"])

    told = browser.begun("Что ты ответил?", path=begun["thread_url"])

    assert "<pre>" in _text(events)
    assert told["thread_id"] == begun["thread_id"]
    page = browser.http.get(begun["thread_url"]).text
    assert page.count("<pre>") >= 1
    assert _text(events) in page


def test_double_submit_is_one_run(browser: Browser) -> None:
    key, answers = str(uuid4()), list[httpx.Response]()
    senders = [
        threading.Thread(target=lambda: answers.append(browser.ask(idempotency_key=key))) for _ in range(3)
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()

    again = browser.ask(idempotency_key=key)

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["run_id"] for answer in [*answers, again]}) == 1
    assert again.headers["Idempotent-Replayed"] == "true"
    assert Run.objects.filter(customer_id=browser.user.id).count() == 1
    assert Thread.objects.filter(user=browser.user).count() == 1
    other = browser.ask("Совсем другое", idempotency_key=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")


def test_reader_who_comes_back_gets_exactly_the_rest(browser: Browser) -> None:
    begun = browser.begun(model="sandbox/large")
    whole = browser.events(begun["events_url"])
    blocks = [event for event in whole if event.name == "html.block" and event.id is not None]

    rest = browser.events(begun["events_url"], after_seq=blocks[0].id or 0)

    # Unfinished tails depend on the rhythm of reading; everything else does not.
    seen = blocks[0].id or 0
    kept = [event for event in _steady(whole) if event.id is None or event.id > seen]
    assert [_facts(event) for event in _steady(rest)] == [_facts(event) for event in kept]
    assert _text(blocks[:1]) + _text(rest) == _text(whole)


def test_answer_goes_on_without_its_reader(browser: Browser) -> None:
    begun = browser.begun(model="fault/slow")
    with browser.http.stream("GET", begun["events_url"]) as stream:
        for _line in stream.iter_lines():
            break  # the tab is closed

    half = browser.http.get(begun["thread_url"]).text
    browser.post(begun["stop_url"])
    events = browser.events(begun["events_url"])

    assert begun["events_url"] in half
    assert events[-1].name == "finished"


def test_stop_in_mid_answer_charges_the_question_and_what_arrived(browser: Browser) -> None:
    begun = browser.begun(model="fault/slow")
    with browser.http.stream("GET", begun["events_url"]) as stream:
        next(line for line in stream.iter_lines() if "часть 1" in line)

    assert browser.post(begun["stop_url"]).status_code == 204
    events = browser.events(begun["events_url"])

    price = _one(events, "price").data
    assert events[-1].data["finish_reason"] == "cancelled"
    assert price["cost_micro_rub"] > 0
    assert price["released_micro_rub"] > 0
    assert Hold.objects.get(pk=begun["run_id"]).status == "captured"
    message = browser.http.get(events[-1].data["message_url"]).text
    assert "Остановлено. Списано" in message
    assert "часть 1" in message
    assert browser.post(begun["stop_url"]).status_code == 204  # pressed too late: nothing changes


@pytest.mark.parametrize("model", ["fault/cut-early", "fault/empty"])
def test_failed_answer_costs_nothing_and_says_so(browser: Browser, model: str) -> None:
    begun = browser.begun(model=model)
    last = browser.events(begun["events_url"])[-1]

    assert (last.name, last.data["charged_micro_rub"]) == ("failed", 0)
    assert "Деньги не списаны" in last.data["text"]
    assert "Деньги не списаны" in browser.http.get(last.data["message_url"]).text
    assert Run.objects.get(pk=begun["run_id"]).cost_micro_rub == 0


def test_thinking_shows_as_a_status_only(browser: Browser) -> None:
    events = browser.events(browser.begun(model="sandbox/reasoning")["events_url"])

    assert [event.data["text"] for event in events if event.name == "status"][-1] == "Думает…"


def test_second_question_takes_the_conversation_along(browser: Browser) -> None:
    first = browser.begun()
    browser.events(first["events_url"])

    second = browser.begun("А три и три?", path=first["thread_url"])
    events = browser.events(second["events_url"])

    assert second["thread_id"] == first["thread_id"]
    assert "сообщений в переписке: 3" in _text(events)
    assert Message.objects.filter(thread_id=first["thread_id"]).count() == 4


def test_empty_purse_is_told_the_sums_and_nothing_is_kept(make_browser: MakeBrowser) -> None:
    poor = make_browser(rub=0)
    key = str(uuid4())

    problem = poor.ask("Мой вопрос", idempotency_key=key)
    page = poor.ask("Мой вопрос", script=False)

    assert (problem.status_code, problem.json()["code"]) == (402, "insufficient_balance")
    assert problem.json()["title"].startswith("На балансе 0\u00a0₽, на этот запрос нужно до ")
    assert page.status_code == 402
    assert "Мой вопрос" in page.text
    assert 'href="/app/topup"' in page.text
    assert not Thread.objects.filter(user=poor.user).exists()


def test_question_refused_for_money_goes_through_after_a_topup(make_browser: MakeBrowser) -> None:
    browser, key = make_browser(rub=0), str(uuid4())
    refused = browser.ask(idempotency_key=key)

    credited(browser.user, 100 * RUB)
    accepted = browser.ask(idempotency_key=key)

    assert (refused.status_code, accepted.status_code) == (402, 201)


@pytest.mark.parametrize(
    ("model", "status", "code"), [("keyless/model", 503, "no_route"), ("нет/такой", 422, "model_not_found")]
)
def test_model_that_cannot_be_asked_is_refused(browser: Browser, model: str, status: int, code: str) -> None:
    answer = browser.ask(model=model)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["request_id"]
    assert not Message.objects.filter(customer_id=browser.user.id).exists()


def test_own_choice_of_ours_explains_itself(browser: Browser) -> None:
    begun = browser.begun(model="auto")
    browser.events(begun["events_url"])

    why = browser.http.get(f"/app/requests/{begun['run_id']}").text

    assert "поровну качество и цена" in why
    assert "нет связи с провайдером" in why


def test_form_without_scripts_shows_the_finished_thread(browser: Browser) -> None:
    answer = browser.ask("Вопрос без скриптов", script=False)

    assert answer.status_code == 302
    page = browser.http.get(answer.headers["Location"]).text
    assert "Вопрос без скриптов" in page
    assert "data-events-url" not in page.partition("<template")[0]
    assert "price-line" in page


def test_starter_without_scripts_asks_its_text(browser: Browser) -> None:
    answer = browser.ask("", script=False, starter="Готовый вопрос")

    assert answer.status_code == 302
    assert Message.objects.filter(customer_id=browser.user.id, text="Готовый вопрос").exists()


def test_stop_without_scripts_leads_back_to_the_answer_as_far_as_it_came(browser: Browser) -> None:
    begun = browser.begun(model="fault/slow")
    assert begun["stop_url"] in browser.http.get(begun["thread_url"]).text

    answer = browser.post(begun["stop_url"], script=False)

    assert (answer.status_code, answer.headers["Location"]) == (302, begun["thread_url"])
    assert Run.objects.get(pk=begun["run_id"]).state == "stopped"
    assert "Остановлено." in browser.http.get(begun["thread_url"]).text


def test_runs_of_somebody_else_cannot_be_read_or_stopped(browser: Browser, make_browser: MakeBrowser) -> None:
    begun = browser.begun(model="fault/slow")
    stranger = make_browser()

    assert stranger.http.get(begun["events_url"]).status_code == 404
    assert stranger.post(begun["stop_url"]).status_code == 404
    assert stranger.http.get(begun["thread_url"]).status_code == 404
    assert stranger.ask(path=begun["thread_url"]).status_code == 404
    assert Run.objects.get(pk=begun["run_id"]).state == "running"
    assert browser.post(begun["stop_url"]).status_code == 204


def test_question_without_the_token_of_the_form_is_refused(browser: Browser) -> None:
    browser.token = "forged"

    assert browser.ask().status_code == 403


def test_customer_who_has_not_accepted_the_offer_is_told_where(make_browser: MakeBrowser) -> None:
    user = User(email=factories.unique_email())
    user.save(force_insert=True)

    problem = make_browser(rub=0, user=user).ask()

    assert (problem.status_code, problem.json()["code"]) == (409, "terms_outdated")
    assert "на странице пополнения" in problem.json()["detail"]
    assert not Message.objects.filter(customer_id=user.id).exists()
