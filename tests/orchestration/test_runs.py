"""Runs over HTTP: frames, money, replay, resume, stop, refusals."""

import threading
import time
from collections.abc import Callable
from uuid import UUID, uuid4

import httpx
import pytest

from billing.models import Hold, LedgerEntry, UsageEvent
from orchestration.models import Attempt, Run, RunFrames
from tests import web
from tests.orchestration.conftest import RUB, Client, credited, one, parsed, text_of, types
from tests.sandbox_process import SandboxProcess
from tests.server_process import ServerProcess


def test_run_tells_its_story_and_takes_exactly_its_price(client: Client) -> None:
    before = client.balance()["balance_micro_rub"]

    frames = client.frames()

    assert [frame["seq"] for frame in frames] == list(range(1, len(frames) + 1))
    assert types(frames) == [
        "run.accepted", "route", "stage.started", "delta", "usage", "stage.finished", "settled",
        "run.finished",
    ]  # fmt: skip
    stage = {"stage", "role", "index", "model", "status", "usage", "cost_micro_rub"}
    for name in ("stage.started", "stage.finished"):
        assert set(one(frames, name)) == stage | {"run_id", "seq", "ts", "type"}
    settled = one(frames, "settled")
    accepted = one(frames, "run.accepted")
    assert settled["cost_micro_rub"] > 0
    assert settled["cost_micro_rub"] + settled["released_micro_rub"] == accepted["hold_micro_rub"]
    assert settled["balance_micro_rub"] == before - settled["cost_micro_rub"]
    assert client.balance()["balance_micro_rub"] == settled["balance_micro_rub"]
    entry = LedgerEntry.objects.get(id=settled["ledger_entry_id"])
    assert (entry.amount_micro_rub, entry.source_id) == (settled["cost_micro_rub"], frames[0]["run_id"])
    usage = UsageEvent.objects.get(run_id=frames[0]["run_id"])
    assert usage.ledger_entry_id == entry.id
    assert usage.charged_micro_rub == usage.cost_micro_rub == entry.amount_micro_rub
    assert Hold.objects.get(id=frames[0]["run_id"]).status == "captured"


def test_run_without_stream_answers_one_object(client: Client) -> None:
    answer = client.run(stream=False)

    assert answer.status_code == 200
    body = answer.json()
    assert body["state"] == "done"
    assert body["text"]
    assert answer.headers["x-plyrum-cost-micro-rub"] == str(body["cost_micro_rub"])
    assert LedgerEntry.objects.get(id=body["ledger_entry_id"]).amount_micro_rub == body["cost_micro_rub"]


def test_run_resource_explains_route_and_price(client: Client) -> None:
    frames = client.frames(model=None, profile="cheap")

    body = client.http.get(f"/api/runs/{frames[0]['run_id']}").json()

    assert body["state"] == "done"
    assert body["cost_micro_rub"] == one(frames, "settled")["cost_micro_rub"]
    assert body["route"]["candidates"][0]["model"] == one(frames, "route")["model"]
    assert body["route"]["excluded"]["keyless/model"] == "no_active_key"
    assert body["attempts"][0]["status"] == "done"


def test_same_key_and_body_answers_the_same_frames_and_charges_once(client: Client) -> None:
    key = str(uuid4())
    first = client.run(idempotency_key=key)
    wait_for_archive(parsed(first)[0]["run_id"])

    again = client.run(idempotency_key=key)

    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    assert LedgerEntry.objects.filter(customer_id=client.user.id, type="usage_debit").count() == 1


def test_same_key_with_another_body_is_refused(client: Client) -> None:
    key = str(uuid4())
    client.run(idempotency_key=key)

    other = client.run(idempotency_key=key, prompt="Другой вопрос")

    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")


def test_fifty_equal_requests_at_once_are_one_run(client: Client) -> None:
    key = str(uuid4())
    answers: list[httpx.Response] = []
    barrier = threading.Barrier(50)

    def ask() -> None:
        barrier.wait()
        answers.append(web.post(
            f"{client.http.base_url}/api/stream/run".replace("//api", "/api"),
            headers=dict(client.http.headers),
            json={"idempotency_key": key, "prompt": "Один вопрос на всех", "model": "sandbox/small"},
            timeout=60,
        ))  # fmt: skip

    in_threads(ask, 50)

    assert {answer.status_code for answer in answers} == {200}
    assert len({parsed(answer)[0]["run_id"] for answer in answers}) == 1
    assert len({answer.content for answer in answers}) == 1
    assert LedgerEntry.objects.filter(customer_id=client.user.id, type="usage_debit").count() == 1


def test_hundred_requests_for_ten_holds_accept_exactly_ten(make_client: Callable[..., Client]) -> None:
    """Money for ten worst cases: ten go, ninety are refused, nothing is spent twice."""
    rich = make_client()
    worst = rich.http.post("/api/runs/estimate", json={"prompt": "Тише едешь", "model": "fault/slow"}).json()
    client = make_client(rub=0)
    credited(client.user, worst["hold_micro_rub"] * 10)
    answers: list[httpx.Response] = []
    barrier = threading.Barrier(100)

    def ask() -> None:
        barrier.wait()
        answers.append(client.run("fault/slow", prompt="Тише едешь"))

    in_threads(ask, 100)

    accepted = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code == 402]
    assert (len(accepted), len(refused)) == (10, 90)
    assert {answer.json()["code"] for answer in refused} == {"reserved_in_flight"}
    assert all("retry-after" in answer.headers for answer in refused)
    spent = sum(one(parsed(answer), "settled")["cost_micro_rub"] for answer in accepted)
    assert client.balance()["total_micro_rub"] == worst["hold_micro_rub"] * 10 - spent


def test_run_without_money_is_refused_before_anything_is_sent(
    make_client: Callable[..., Client], sandbox: SandboxProcess
) -> None:
    client = make_client(rub=0)
    question = f"Бесплатно? {uuid4()}"

    answer = client.run(prompt=question)

    body = answer.json()
    assert (answer.status_code, body["code"], body["balance_micro_rub"]) == (402, "insufficient_balance", 0)
    assert body["needed_micro_rub"] > 0
    assert calls_with(sandbox, question) == 0


def test_refusal_for_lack_of_money_is_final_for_its_key(make_client: Callable[..., Client]) -> None:
    client = make_client(rub=0)
    key = str(uuid4())
    client.run(idempotency_key=key)
    credited(client.user, RUB * 10)

    again, fresh = client.run(idempotency_key=key), client.run()

    assert (again.status_code, again.json()["code"]) == (402, "insufficient_balance")
    assert fresh.status_code == 200


def test_frames_can_be_resumed_from_any_place(client: Client) -> None:
    first = client.run()
    run_id = parsed(first)[0]["run_id"]

    for after in (0, 3, len(parsed(first)) - 1, len(parsed(first)), 10_000):
        part = client.http.get(f"/api/runs/{run_id}/frames", params={"after_seq": after})
        assert part.status_code == 200
        assert part.content.splitlines() == first.content.splitlines()[after:]


def test_stop_closes_upstream_and_charges_for_what_was_delivered(
    client: Client, sandbox: SandboxProcess
) -> None:
    question = f"Долгий рассказ {uuid4()}"
    body = {"idempotency_key": str(uuid4()), "prompt": question, "model": "fault/slow"}
    with client.http.stream("POST", "/api/stream/run", json=body) as response:
        lines = response.iter_lines()
        run_id = httpx.Response(200, content=next(lines)).json()["run_id"]
        for _ in range(6):
            next(lines)

        stopped = client.http.post(f"/api/runs/{run_id}/cancel")
        list(lines)

    assert stopped.json()["state"] == "stopped"
    assert 0 < stopped.json()["cost_micro_rub"] < Run.objects.get(id=run_id).hold_micro_rub
    charge = LedgerEntry.objects.get(customer_id=client.user.id, type="usage_debit")
    assert stopped.json()["ledger_entry_id"] == str(charge.id)
    frames = parsed(client.http.get(f"/api/runs/{run_id}/frames"))
    assert one(frames, "run.finished")["finish_reason"] == "cancelled"
    assert UsageEvent.objects.get(run_id=run_id).estimated
    eventually(lambda: any(call["disconnected"] for call in calls(sandbox, question)))
    again = client.http.post(f"/api/runs/{run_id}/cancel")
    assert again.json() == stopped.json()


def test_stop_of_a_run_that_cost_nothing_names_no_charge(client: Client) -> None:
    run_id = client.frames("fault/400")[0]["run_id"]

    stopped = client.http.post(f"/api/runs/{run_id}/cancel").json()

    assert (stopped["state"], stopped["cost_micro_rub"], stopped["ledger_entry_id"]) == ("failed", 0, None)


def test_reader_may_leave_and_the_run_goes_on(client: Client) -> None:
    body = {"idempotency_key": str(uuid4()), "prompt": "Я скоро уйду", "model": "bench/20-100"}
    with client.http.stream("POST", "/api/stream/run", json=body) as response:
        run_id = httpx.Response(200, content=next(response.iter_lines())).json()["run_id"]

    eventually(lambda: Run.objects.get(id=run_id).state == "done")

    frames = parsed(client.http.get(f"/api/runs/{run_id}/frames"))
    assert frames[-1]["type"] == "run.finished"
    assert one(frames, "settled")["cost_micro_rub"] > 0


def test_another_process_can_follow_and_stop_a_run(
    client: Client, sandbox: SandboxProcess, make_client: Callable[..., Client]
) -> None:
    with ServerProcess(sandbox_url=sandbox.url) as other:
        elsewhere = make_client(url=other.url, user=client.user)
        body = {"idempotency_key": str(uuid4()), "prompt": "Из другого процесса", "model": "fault/slow"}
        with client.http.stream("POST", "/api/stream/run", json=body) as response:
            lines = response.iter_lines()
            run_id = httpx.Response(200, content=next(lines)).json()["run_id"]
            next(lines)
            attached: list[httpx.Response] = []
            reader = threading.Thread(target=lambda: attached.append(
                elsewhere.http.post("/api/stream/run", json=body)))  # fmt: skip
            reader.start()
            time.sleep(1)
            stopped = elsewhere.http.post(f"/api/runs/{run_id}/cancel")
            own = [frame for frame in lines if frame]
        reader.join(60)

    assert stopped.json()["state"] == "stopped"
    assert attached[0].headers["idempotent-replayed"] == "true"
    assert attached[0].text.splitlines()[-1] == own[-1]
    assert LedgerEntry.objects.filter(customer_id=client.user.id, type="usage_debit").count() == 1


def test_auto_falls_back_to_the_next_allowed_model(client: Client) -> None:
    frames = client.frames(model=None, models=["fault/503", "sandbox/small"])

    fallback = one(frames, "fallback")
    assert (fallback["from"], fallback["to"], fallback["class"]) == (
        "fault/503",
        "sandbox/small",
        "overloaded",
    )
    assert frames[-1]["type"] == "run.finished"
    run_id = frames[0]["run_id"]
    assert [a.status for a in Attempt.objects.filter(run_id=run_id).order_by("number")] == ["failed", "done"]
    assert Run.objects.get(id=run_id).model == "sandbox/small"


@pytest.mark.parametrize(
    ("model", "code"),
    [
        ("fault/429", "rate_limited"),
        ("fault/429-quota", "out_of_funds"),
        ("fault/500", "retry_same"),
        ("fault/503", "overloaded"),
        ("fault/402", "out_of_funds"),
        ("fault/401", "auth_invalid"),
        ("fault/404", "model_unavailable"),
        ("fault/400", "request_invalid"),
        ("fault/context", "context_too_long"),
        ("fault/403-region", "region_blocked"),
        ("fault/cut-early", "stream_broken"),
        ("fault/error-in-stream", "stream_broken"),
        ("fault/html", "retry_same"),
        ("fault/huge-error", "retry_same"),
        ("fault/empty", "empty_answer"),
    ],
)
def test_failure_before_the_first_word_costs_nothing(client: Client, model: str, code: str) -> None:
    frames = client.frames(model)

    error = frames[-1]
    # A key that rests since an earlier request of this suite answers rate_limited at once.
    assert error["code"] in (code, "rate_limited")
    assert error["charged_micro_rub"] == one(frames, "settled")["cost_micro_rub"] == 0
    assert client.balance()["balance_micro_rub"] == 100 * RUB
    assert not UsageEvent.objects.filter(run_id=frames[0]["run_id"]).exists()


@pytest.mark.parametrize("model", ["fault/cut", "fault/error-late"])
def test_broken_answer_is_charged_for_the_delivered_part_only(client: Client, model: str) -> None:
    frames = client.frames(model)

    assert (frames[-1]["type"], frames[-1]["code"]) == ("error", "stream_broken")
    whole = one(client.frames(), "settled")["cost_micro_rub"]
    assert 0 < frames[-1]["charged_micro_rub"] < whole
    assert UsageEvent.objects.get(run_id=frames[0]["run_id"]).estimated


@pytest.mark.parametrize("model", ["fault/no-usage", "fault/zero-usage"])
def test_missing_usage_is_estimated_and_never_above_the_hold(client: Client, model: str) -> None:
    frames = client.frames(model)

    assert one(frames, "usage")["usage"]["estimated"]
    assert 0 < one(frames, "settled")["cost_micro_rub"] < one(frames, "run.accepted")["hold_micro_rub"]


@pytest.mark.parametrize("model", ["fault/usage-everywhere", "fault/split-utf8", "fault/no-done",
                                   "fault/empty-choices", "fault/usage-in-finish"])  # fmt: skip
def test_hosts_with_odd_manners_are_understood(client: Client, model: str) -> None:
    frames = client.frames(model)

    assert frames[-1]["type"] == "run.finished"
    assert not one(frames, "usage")["usage"]["estimated"]
    assert "\ufffd" not in text_of(frames)


def test_cached_tokens_are_charged_at_their_own_price(client: Client) -> None:
    usage = one(client.frames("sandbox/cached"), "usage")["usage"]
    row = UsageEvent.objects.filter(customer_id=client.user.id).latest("id")

    assert 0 < usage["cached_input_tokens"] < usage["input_tokens"]
    uncached = usage["input_tokens"] - usage["cached_input_tokens"]
    exact = (uncached * 24 + usage["cached_input_tokens"] * 6 + usage["output_tokens"] * 96) * 1.3
    assert 0 <= row.cost_micro_rub - exact < 1


def test_runs_of_a_stranger_do_not_exist(client: Client, make_client: Callable[..., Client]) -> None:
    run_id = client.frames()[0]["run_id"]
    stranger = make_client()

    for answer in (
        stranger.http.get(f"/api/runs/{run_id}"),
        stranger.http.get(f"/api/runs/{run_id}/frames"),
        stranger.http.post(f"/api/runs/{run_id}/cancel"),
        stranger.http.get(f"/api/runs/{uuid4()}"),
        stranger.http.get("/api/runs/not-an-id/frames"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert stranger.http.get("/api/runs").json()["items"] == []


def wait_for_archive(run_id: str) -> None:
    eventually(lambda: RunFrames.objects.filter(run_id=UUID(run_id)).exists())


def eventually(holds: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def in_threads(work: Callable[[], None], count: int) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def calls(sandbox: SandboxProcess, text: str) -> list[dict[str, bool]]:
    answer = web.get(f"{sandbox.url}/control/provider/calls", params={"contains": text})
    found: list[dict[str, bool]] = answer.json()["calls"]
    return found


def calls_with(sandbox: SandboxProcess, text: str) -> int:
    return len(calls(sandbox, text))
