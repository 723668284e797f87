"""Models, runs, estimates and usage over HTTP."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from redis import Redis

from billing import pricing
from billing.models import UsageEvent
from orchestration import catalogue
from orchestration.frames import stream_key
from orchestration.models import Run, RunFrames
from plyrum import clock
from plyrum.ids import uuid7
from tests import web
from tests.orchestration.conftest import Client, one
from tests.orchestration.test_runs import wait_for_archive

MODEL_FIELDS = {
    "id", "label", "description_ru", "provider", "capabilities", "context_tokens", "max_output_tokens",
    "prices", "privacy_tier", "hosted_region", "risk", "configured", "status",
}  # fmt: skip


def models(client: Client) -> dict[str, dict[str, Any]]:
    answer = client.http.get("/api/models")
    assert (answer.status_code, answer.headers["x-schema-version"]) == (200, "2")
    return {item["id"]: item for item in answer.json()["items"]}


def test_catalogue_is_public(client: Client) -> None:
    answer = web.get(client.http.base_url.join("/api/models"))

    assert answer.status_code == 200
    assert answer.json()["next_cursor"] is None


def test_models_are_listed_page_by_page(client: Client) -> None:
    whole = [item["id"] for item in client.http.get("/api/models").json()["items"]]

    first = client.http.get("/api/models", params={"page_size": 2})
    pages = [first.json()]
    while pages[-1]["next_cursor"]:
        answer = client.http.get("/api/models", params={"page_size": 2, "cursor": pages[-1]["next_cursor"]})
        assert "x-total-count" not in answer.headers
        pages.append(answer.json())
    third = client.http.get("/api/models", params={"page": 3, "page_size": 2}).json()

    assert [item["id"] for page in pages for item in page["items"]] == whole == sorted(whole)
    assert [first.headers[f"x-{name}"] for name in ("total-count", "page", "page-size")] == [
        str(len(whole)), "1", "2",
    ]  # fmt: skip
    assert [item["id"] for item in third["items"]] == whole[4:6]


def test_models_have_the_fields_of_the_contract(client: Client) -> None:
    found = models(client)

    assert {frozenset(item) for item in found.values()} == {frozenset(MODEL_FIELDS)}
    assert (found["sandbox/small"]["configured"], found["sandbox/small"]["status"]) == (True, "active")
    assert found["keyless/model"]["configured"] is False
    assert found["sandbox/small"]["capabilities"] == ["text"]


@pytest.mark.parametrize("model", ["sandbox/small", "sandbox/large", "keyless/model"])
def test_shown_prices_are_the_charged_ones(client: Client, model: str) -> None:
    price = catalogue.refresh().offers[model].price
    assert price is not None

    shown = models(client)[model]["prices"]

    names = ("input", "cached_input", "cache_write", "output")
    assert shown == {
        **{f"{name}_micro_rub_per_mtok": pricing.per_million(getattr(price, name), price) for name in names},
        "image_micro_rub": pricing.per_million(price.image, price),
    }
    million = pricing.Usage(output_tokens=1_000_000)
    assert shown["output_micro_rub_per_mtok"] == pricing.cost(million, price)


def test_known_prices_in_roubles_and_dollars(client: Client) -> None:
    """24 RUB and 2.50 USD at 95, both with 30 % on top."""
    found = models(client)

    assert found["sandbox/small"]["prices"]["input_micro_rub_per_mtok"] == 31_200_000
    price = catalogue.refresh().offers["sandbox/large"].price
    assert price is not None
    expected = -(-2_500_000 * price.fx_micro_rub * 13_000 // (10**6 * 10**4))
    assert found["sandbox/large"]["prices"]["input_micro_rub_per_mtok"] == expected


def test_runs_are_listed_newest_first_page_by_page(client: Client) -> None:
    made = [client.run(stream=False).json()["run_id"] for _ in range(5)]

    first = client.http.get("/api/runs", params={"page_size": 2})
    pages = [first.json()]
    while pages[-1]["next_cursor"]:
        answer = client.http.get("/api/runs", params={"page_size": 2, "cursor": pages[-1]["next_cursor"]})
        assert "x-total-count" not in answer.headers
        pages.append(answer.json())

    assert [item["id"] for page in pages for item in page["items"]] == made[::-1]
    assert [first.headers[f"x-{name}"] for name in ("total-count", "page", "page-size")] == ["5", "1", "2"]
    assert first.headers["x-schema-version"] == "1"
    third = client.http.get("/api/runs", params={"page": 3, "page_size": 2}).json()
    assert [item["id"] for item in third["items"]] == made[:1]
    assert third["next_cursor"] is None


@pytest.mark.parametrize("query", [{"page": 0}, {"page_size": 101}, {"cursor": "forged"}, {"page": "x"}])
@pytest.mark.parametrize("path", ["/api/models", "/api/runs", "/api/usage"])
def test_wrong_page_is_a_wrong_field(client: Client, path: str, query: dict[str, Any]) -> None:
    answer = client.http.get(path, params=query)

    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")


@pytest.mark.parametrize("model", ["sandbox/small", "sandbox/large", None])
def test_estimate_is_what_is_held_later(client: Client, model: str | None) -> None:
    asked = {"prompt": "Сколько это стоит?", "profile": "quality", "max_output_tokens": 300}
    named = {"model": model} if model else {}
    runs_before = client.http.get("/api/runs").json()["items"]

    estimate = client.http.post("/api/runs/estimate", json={**asked, **named}).json()

    assert client.http.get("/api/runs").json()["items"] == runs_before  # nothing was begun
    frames = client.frames(model, **asked)
    accepted = one(frames, "run.accepted")
    assert estimate["hold_micro_rub"] == accepted["hold_micro_rub"]
    assert estimate["estimate_micro_rub"] == accepted["estimate_micro_rub"]
    route = client.http.get(f"/api/runs/{accepted['run_id']}").json()["route"]
    assert {**route, "catalogue_version": 0} == {**estimate["route"], "catalogue_version": 0}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"prompt": "?", "model": "no/such"}, 422, "model_not_found"),
        ({"prompt": "?", "model": "keyless/model"}, 503, "no_route"),
        ({"prompt": "?", "max_cost_micro_rub": 1}, 503, "no_route"),
        ({"prompt": "?", "messages": [{"role": "user", "content": "?"}]}, 422, "validation_failed"),
        ({"prompt": "?", "model": "a", "models": ["b"]}, 422, "validation_failed"),
        ({}, 422, "validation_failed"),
        ({"prompt": ""}, 422, "validation_failed"),
        ({"prompt": "?", "temperature": 3}, 422, "validation_failed"),
        ({"prompt": "?", "no_pii": "strict"}, 422, "validation_failed"),
        ({"prompt": "?", "tempratur": 1}, 422, "validation_failed"),
    ],
)
def test_estimate_refuses_what_a_run_would(client: Client, body: Any, status: int, code: str) -> None:
    estimate = client.http.post("/api/runs/estimate", json=body)
    run = client.http.post("/api/stream/run", json={**body, "idempotency_key": str(uuid4())})

    assert (estimate.status_code, estimate.json()["code"]) == (status, code)
    assert (run.status_code, run.json()["code"]) == (status, code)
    if code == "no_route":
        assert estimate.json()["reasons"] == run.json()["reasons"] != {}


@pytest.fixture
def spender(make_client: Callable[..., Client]) -> Client:
    """A customer who used three models; each answer was charged."""
    client = make_client()
    for model in ("sandbox/small", "sandbox/small", "sandbox/cached", "sandbox/reasoning"):
        assert client.run(model, stream=False).status_code == 200
    return client


def usage(client: Client, **query: Any) -> list[dict[str, Any]]:
    answer = client.http.get("/api/usage", params={"page_size": 100, **query})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def test_export_streams_the_same_rows(spender: Client) -> None:
    with spender.http.stream("GET", "/api/usage/export", params={"format": "jsonl"}) as answer:
        lines = list(answer.iter_lines())

    assert answer.headers["content-type"] == "application/x-ndjson"
    assert "content-length" not in answer.headers
    assert [json.loads(line) for line in lines] == usage(spender)


def test_usage_rows_lead_to_run_and_entry(spender: Client) -> None:
    answer = spender.http.get("/api/usage")
    items = answer.json()["items"]

    assert answer.headers["x-schema-version"] == "2"
    assert [item["model"] for item in items] == [
        "sandbox/reasoning", "sandbox/cached", "sandbox/small", "sandbox/small",
    ]  # fmt: skip
    assert items[0]["usage"]["reasoning_tokens"] > 0 < items[1]["usage"]["cached_input_tokens"]
    for item in items:
        run = spender.http.get(f"/api/runs/{item['run_id']}").json()
        assert run["ledger_entry_id"] == item["ledger_entry_id"]
        assert run["cost_micro_rub"] == item["cost_micro_rub"]
        assert run["usage"]["output_tokens"] == item["usage"]["output_tokens"]


def test_usage_is_filtered(spender: Client) -> None:
    now = clock.now()
    before, after = (now - timedelta(hours=1)).isoformat(), (now + timedelta(hours=1)).isoformat()

    assert len(usage(spender, model="sandbox/small")) == 2
    assert usage(spender, model="sandbox/none") == []
    assert len(usage(spender, **{"from": before, "to": after})) == 4
    assert usage(spender, **{"from": after}) == usage(spender, to=before) == []
    assert usage(spender, api_key_id=str(uuid7())) == []
    oldest = usage(spender)[-1]["created_at"]
    assert len(usage(spender, **{"from": oldest})) == 4  # from is included, to is not
    assert usage(spender, to=oldest) == []


@pytest.mark.parametrize(
    "query",
    [
        {"from": "yesterday"},
        {"to": "2026-13-01T00:00:00Z"},
        {"api_key_id": "x"},
        {"model": "m" * 101},
        {"from": "2026-11-21T00:00:00Z", "to": "2026-11-20T00:00:00Z"},
        {"since": "2026-11-20T00:00:00Z"},
    ],
)
def test_wrong_filter_is_a_wrong_field(client: Client, query: dict[str, str]) -> None:
    """What belongs to two fields or to none has the place alone."""
    path = "/api/usage" if {"model", "api_key_id"} & set(query) else "/api/usage/summary"
    answer = client.http.get(path, params=query)

    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    (row,) = answer.json()["errors"]
    assert row["loc"] == (["query"] if len(query) == 2 or "since" in query else ["query", *query])


def test_unknown_parameter_of_any_list_is_refused(client: Client) -> None:
    for path in ("/api/usage", "/api/usage/export", "/api/runs", "/api/payments", "/api/billing/ledger"):
        assert client.http.get(path, params={"pagesize": "5"}).status_code == 422, path


@pytest.mark.parametrize(
    "moment", ["2026-01-01T00:00:00", "2026-01-01", "0001-01-01T00:00:00Z", "1767225600"]
)
@pytest.mark.parametrize("path", ["/api/usage", "/api/usage/summary"])
def test_any_moment_that_is_taken_can_be_asked_for(client: Client, path: str, moment: str) -> None:
    assert client.http.get(path, params={"from": moment, "to": moment}).status_code in (200, 422)


@pytest.mark.parametrize("group", ["day", "model", "key"])
def test_sums_are_those_of_the_rows(spender: Client, group: str) -> None:
    rows = usage(spender)

    answer = spender.http.get("/api/usage/summary", params={"group_by": group}).json()

    assert answer["group_by"] == group
    items = answer["items"]
    assert sum(item["requests"] for item in items) == len(rows) == 4
    assert sum(item["cost_micro_rub"] for item in items) == sum(row["cost_micro_rub"] for row in rows)
    for name in ("input_tokens", "output_tokens"):
        assert sum(item[name] for item in items) == sum(row["usage"][name] for row in rows)
    if group == "model":
        assert [item["key"] for item in items] == ["sandbox/cached", "sandbox/reasoning", "sandbox/small"]
    if group == "key":
        assert [item["key"] for item in items] == [None]


def test_group_must_be_one_of_ours(client: Client) -> None:
    assert client.http.get("/api/usage/summary", params={"group_by": "secret"}).status_code == 422


def test_sums_are_taken_from_the_wallet(spender: Client) -> None:
    spent = 100_000_000 - spender.balance()["balance_micro_rub"]

    assert sum(row["cost_micro_rub"] for row in usage(spender)) == spent


def test_stranger_sees_nothing_of_it(spender: Client, make_client: Callable[..., Client]) -> None:
    stranger = make_client(rub=0)
    row = UsageEvent.objects.filter(customer_id=spender.user.id).latest("id")

    assert usage(stranger) == usage(stranger, model=row.model) == []
    assert stranger.http.get("/api/usage/summary").json()["items"] == []
    assert stranger.http.get("/api/runs").json()["items"] == []
    theirs, missing = (stranger.http.get(f"/api/runs/{run_id}").json() for run_id in (row.run_id, uuid4()))
    assert {**theirs, "instance": "", "request_id": ""} == {**missing, "instance": "", "request_id": ""}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/runs"),
        ("GET", "/api/runs/x"),
        ("POST", "/api/runs/estimate"),
        ("GET", "/api/usage"),
        ("GET", "/api/usage/summary"),
        ("POST", "/api/stream/run"),
        ("GET", "/api/runs/x/frames"),
        ("POST", "/api/runs/x/cancel"),
    ],
)
def test_visitor_must_sign_in(client: Client, method: str, path: str) -> None:
    answer = web.request(method, client.http.base_url.join(path), json={})

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("model", "status", "code", "reason"),
    [
        ("fault/503", 503, "run_failed", "overloaded"),
        ("fault/400", 422, "request_refused", "request_invalid"),
        ("fault/context", 422, "request_refused", "context_too_long"),
        ("fault/empty", 503, "run_failed", "empty_answer"),
    ],
)
def test_failed_run_without_a_stream_is_a_problem(
    client: Client, model: str, status: int, code: str, reason: str
) -> None:
    answer = client.run(model, stream=False)

    body = answer.json()
    assert (answer.status_code, body["code"], body["reason"]) == (status, code, reason)
    # The same key answers the same failure for good, so repeating the request itself does not help.
    assert (body["charged_micro_rub"], body["retryable"]) == (0, False)
    assert client.http.get(f"/api/runs/{body['run_id']}").json()["state"] == "failed"


def test_same_key_without_a_stream_answers_the_same_object(client: Client) -> None:
    key = str(uuid4())

    first, again = (client.run(idempotency_key=key, stream=False) for _ in range(2))

    assert (again.status_code, again.json()) == (200, first.json())
    assert again.headers["idempotent-replayed"] == "true"


def test_same_key_without_a_stream_says_that_a_failure_is_a_replay(client: Client) -> None:
    key = str(uuid4())

    first, again = (client.run("fault/400", idempotency_key=key, stream=False) for _ in range(2))

    assert "idempotent-replayed" not in first.headers
    assert (again.status_code, again.headers["idempotent-replayed"]) == (first.status_code, "true")
    assert again.json() | {"request_id": ""} == first.json() | {"request_id": ""}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 200, ""),
        (b'{"idempotency_key": "k"}', 200, ""),
        (b"{", 400, "invalid_json"),
        (b'{"walk": 1}', 422, "validation_failed"),
        (b" " * 65_537, 413, "body_too_large"),
    ],
)
def test_stop_is_told_nothing_but_a_key(client: Client, body: bytes, status: int, code: str) -> None:
    run_id = client.run(stream=False).json()["run_id"]

    answer = client.http.post(f"/api/runs/{run_id}/cancel", content=body)

    assert (answer.status_code, answer.json().get("code", "")) == (status, code)


@pytest.mark.parametrize("key", [None, ""])
def test_key_is_required(client: Client, key: str | None) -> None:
    body = {"prompt": "?", "model": "sandbox/small"} | ({"idempotency_key": key} if key is not None else {})

    answer = client.http.post("/api/stream/run", json=body)

    assert answer.status_code == 422
    assert answer.json()["code"] in ("idempotency_key_required", "validation_failed")


@pytest.mark.parametrize("key", ["", "k" * 256, "a\x85b"])
def test_header_that_is_no_key_is_refused(client: Client, key: str) -> None:
    """Also when the body has a good one: the header was meant."""
    body = {"prompt": "?", "model": "sandbox/small", "idempotency_key": str(uuid4())}
    headers = {b"Idempotency-Key": key.encode("latin-1")}
    answer = client.http.post("/api/stream/run", json=body, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    assert answer.json()["errors"][0]["loc"] == ["header", "Idempotency-Key"]


def test_key_may_stand_in_the_header(client: Client) -> None:
    body = {"prompt": "?", "model": "sandbox/small", "stream": False}
    headers = {"Idempotency-Key": str(uuid4())}

    first, again = (client.http.post("/api/stream/run", json=body, headers=headers) for _ in range(2))

    assert first.json() == again.json()
    assert first.headers["x-plyrum-run"] == again.headers["x-plyrum-run"]


@pytest.mark.parametrize("after", ["x", "-1", "1.5", "9999999999", " ", ""])
def test_place_in_a_story_is_a_whole_number(client: Client, after: str) -> None:
    run_id = client.run(stream=False).json()["run_id"]

    answer = client.http.get(f"/api/runs/{run_id}/frames", params={"after_seq": after})

    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")


def test_misspelt_place_does_not_answer_with_the_whole_story(client: Client) -> None:
    run_id = client.run(stream=False).json()["run_id"]

    answer = client.http.get(f"/api/runs/{run_id}/frames", params={"after": 3})

    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")


def test_story_that_is_no_longer_kept_is_gone(client: Client) -> None:
    key = str(uuid4())
    run_id = client.run("fault/400", idempotency_key=key).headers["x-plyrum-run"]
    wait_for_archive(run_id)
    RunFrames.objects.filter(run_id=run_id).delete()
    Run.objects.filter(id=run_id).update(finished_at=clock.now() - timedelta(days=1))
    with Redis.from_url(settings.REDIS_URL) as redis:
        redis.delete(stream_key(run_id))

    answer = client.http.get(f"/api/runs/{run_id}/frames")

    assert (answer.status_code, answer.json()["code"]) == (410, "frames_gone")
