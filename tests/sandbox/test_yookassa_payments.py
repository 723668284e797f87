"""The life of a payment and of a refund in the sandbox's YooKassa: objects, moves, lists, scripted calls."""

import re
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests import web
from tests.sandbox.conftest import CreatePayment, new_key, payment_body
from tests.sandbox_process import SandboxProcess

Json = dict[str, Any]
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def pay(sandbox: SandboxProcess, payment: Json, outcome: str = "succeeded", **more: str) -> Json:
    return sandbox.control(f"payments/{payment['id']}/outcome", {"outcome": outcome} | more)


def test_a_new_payment_waits_with_a_confirmation_page(create: CreatePayment, sandbox: SandboxProcess) -> None:
    payment = create()

    assert payment.pop("id").count("-") == 4
    assert MOMENT.fullmatch(payment.pop("created_at"))
    assert payment.pop("confirmation")["confirmation_url"].startswith(f"{sandbox.url}/yookassa/pay/")
    assert payment == {
        "status": "pending",
        "amount": {"value": "1500.00", "currency": "RUB"},
        "description": "Пополнение кошелька № 7f3c",
        "recipient": {"account_id": "900001", "gateway_id": "2900001"},
        "paid": False,
        "refundable": False,
        "test": True,
        "metadata": {"topup_id": "7f3c"},
        "merchant_customer_id": "u_812",
    }


def test_a_paid_payment_shows_everything_the_shop_needs(
    create: CreatePayment, sandbox: SandboxProcess, yookassa: httpx.Client
) -> None:
    payment = create()

    pay(sandbox, payment)
    shown = yookassa.get(f"/payments/{payment['id']}").json()

    assert shown["status"] == "succeeded"
    assert shown["paid"] is True
    assert shown["refundable"] is True
    assert shown["test"] is True
    assert MOMENT.fullmatch(shown["captured_at"])
    assert shown["amount"]["value"] == "1500.00"
    assert shown["income_amount"] == {"value": "1435.95", "currency": "RUB"}
    assert shown["refunded_amount"] == {"value": "0.00", "currency": "RUB"}
    assert shown["payment_method"]["type"] == "bank_card"
    assert shown["payment_method"]["card"]["last4"] == "4444"
    assert set(shown["authorization_details"]) == {"rrn", "auth_code", "three_d_secure"}
    assert shown["metadata"] == {"topup_id": "7f3c"}
    assert "confirmation" not in shown
    assert "cancellation_details" not in shown


def test_sbp_has_its_own_method_shape(create: CreatePayment, sandbox: SandboxProcess) -> None:
    shown = pay(sandbox, create(), method="sbp")

    assert shown["payment_method"]["type"] == "sbp"
    assert shown["payment_method"]["sbp_operation_id"]
    assert shown["payment_method"]["payer_bank_details"]["bic"]
    assert "authorization_details" not in shown


def test_a_canceled_payment_says_who_and_why(create: CreatePayment, sandbox: SandboxProcess) -> None:
    shown = pay(sandbox, create(), "canceled:insufficient_funds")

    assert shown["status"] == "canceled"
    assert shown["paid"] is False
    assert shown["cancellation_details"] == {"party": "payment_network", "reason": "insufficient_funds"}


def test_a_final_state_does_not_change_any_more(create: CreatePayment, sandbox: SandboxProcess) -> None:
    payment = create()
    pay(sandbox, payment)

    assert pay(sandbox, payment, "canceled:fraud_suspected")["status"] == "succeeded"


def test_an_hour_without_payment_cancels(create: CreatePayment, sandbox: SandboxProcess) -> None:
    payment, other = create(), create()

    shown = sandbox.control(f"payments/{payment['id']}/age", {"seconds": 3601})
    young = sandbox.control(f"payments/{other['id']}/age", {"seconds": 3500})

    assert shown["status"] == "canceled"
    assert shown["cancellation_details"] == {"party": "yoo_money", "reason": "expired_on_confirmation"}
    assert young["status"] == "pending"
    assert pay(sandbox, payment)["status"] == "canceled"


def test_two_stages_wait_for_capture(
    create: CreatePayment, sandbox: SandboxProcess, yookassa: httpx.Client
) -> None:
    payment = create(capture=False)

    waiting = pay(sandbox, payment)
    captured = yookassa.post(f"/payments/{payment['id']}/capture", json={}, headers=new_key())
    again = yookassa.post(f"/payments/{payment['id']}/capture", json={}, headers=new_key())

    assert waiting["status"] == "waiting_for_capture"
    assert waiting["paid"] is True
    assert MOMENT.fullmatch(waiting["expires_at"])
    assert captured.json()["status"] == "succeeded"
    assert again.status_code == 400


def test_a_part_may_be_captured(
    create: CreatePayment, sandbox: SandboxProcess, yookassa: httpx.Client
) -> None:
    payment = create(capture=None)
    pay(sandbox, payment)
    path = f"/payments/{payment['id']}/capture"

    too_much = yookassa.post(
        path, json={"amount": {"value": "1500.01", "currency": "RUB"}}, headers=new_key()
    )
    part = yookassa.post(path, json={"amount": {"value": "700.00", "currency": "RUB"}}, headers=new_key())

    assert too_much.json()["parameter"] == "amount.value"
    assert part.json()["amount"]["value"] == "700.00"


def test_only_authorised_money_can_be_let_go(
    create: CreatePayment, sandbox: SandboxProcess, yookassa: httpx.Client
) -> None:
    payment = create(capture=False)
    path = f"/payments/{payment['id']}/cancel"

    too_early = yookassa.post(path, json={}, headers=new_key())
    pay(sandbox, payment)
    canceled = yookassa.post(path, json={}, headers=new_key())

    assert too_early.status_code == 400
    assert canceled.json()["status"] == "canceled"
    assert canceled.json()["cancellation_details"] == {"party": "merchant", "reason": "canceled_by_merchant"}


def test_cancel_and_capture_need_a_key_too(yookassa: httpx.Client, create: CreatePayment) -> None:
    payment = create()

    for act in ("cancel", "capture"):
        answer = yookassa.post(f"/payments/{payment['id']}/{act}", json={})
        assert answer.json()["parameter"] == "Idempotence-Key"


def test_lists_are_paged_newest_first_within_a_window() -> None:
    with SandboxProcess() as sandbox:
        auth = ("900001", "test_sandbox_secret")
        with web.client(base_url=f"{sandbox.url}/yookassa/v3", auth=auth) as client:
            ids = [
                client.post("/payments", json=payment_body(), headers=new_key()).json()["id"]
                for _ in range(12)
            ]
            pay(sandbox, {"id": ids[3]}, method="sbp")
            first = client.get("/payments").json()
            second = client.get("/payments", params={"cursor": first["next_cursor"]}).json()
            by_status = client.get("/payments", params={"status": "succeeded"}).json()
            by_method = client.get("/payments", params={"payment_method": "sbp", "limit": 1}).json()
            since = client.get(f"/payments/{ids[0]}").json()["created_at"]
            later = client.get("/payments", params={"created_at.gte": "2199-01-01T00:00:00Z"}).json()
            window = client.get(
                "/payments",
                params={
                    "created_at.gte": since[:19] + "Z",
                    "captured_at.gt": since[:19] + "Z",
                    "limit": "100",
                },
            ).json()

    assert first["type"] == "list"
    assert [one["id"] for one in first["items"]] == ids[:1:-1]
    assert [one["id"] for one in second["items"]] == ids[1::-1]
    assert "next_cursor" not in second
    assert [one["id"] for one in by_status["items"]] == [ids[3]]
    assert [one["id"] for one in by_method["items"]] == [ids[3]]
    assert later["items"] == []
    assert [one["id"] for one in window["items"]] == [ids[3]]


def refund_body(payment: Json, value: str, **changes: Any) -> Json:
    return {"payment_id": payment["id"], "amount": {"value": value, "currency": "RUB"}} | changes


def test_refunds_add_up_to_the_payment_and_no_further(
    create: CreatePayment, sandbox: SandboxProcess, yookassa: httpx.Client
) -> None:
    payment = create()
    pay(sandbox, payment)

    part = yookassa.post(
        "/refunds",
        json=refund_body(payment, "500.50", description="передумал", metadata={"refund_row_id": "1"}),
        headers=new_key(),
    ).json()
    too_much = yookassa.post("/refunds", json=refund_body(payment, "999.51"), headers=new_key())
    rest = yookassa.post("/refunds", json=refund_body(payment, "999.50"), headers=new_key()).json()
    shown = yookassa.get(f"/payments/{payment['id']}").json()
    listed = yookassa.get("/refunds", params={"payment_id": payment["id"], "status": "succeeded"}).json()

    assert part["status"] == rest["status"] == "succeeded"
    assert part["metadata"] == {"refund_row_id": "1"}
    assert part["description"] == "передумал"
    assert yookassa.get(f"/refunds/{part['id']}").json() == part
    assert too_much.status_code == 400
    assert too_much.json()["parameter"] == "amount.value"
    assert shown["refunded_amount"]["value"] == "1500.00"
    assert shown["refundable"] is False
    assert shown["status"] == "succeeded"
    assert [one["id"] for one in listed["items"]] == [rest["id"], part["id"]]


def test_an_unpaid_payment_cannot_be_refunded(yookassa: httpx.Client, create: CreatePayment) -> None:
    answer = yookassa.post("/refunds", json=refund_body(create(), "1.00"), headers=new_key())

    assert answer.status_code == 400
    assert answer.json()["parameter"] == "payment_id"


def test_refund_outcomes_can_be_scripted(
    create: CreatePayment, sandbox: SandboxProcess, yookassa: httpx.Client
) -> None:
    payment = create()
    pay(sandbox, payment)

    canceled = yookassa.post(
        "/refunds",
        json=refund_body(payment, "1500.00", metadata={"sandbox_outcome": "canceled:insufficient_funds"}),
        headers=new_key(),
    ).json()
    pending = yookassa.post(
        "/refunds",
        json=refund_body(payment, "1500.00", metadata={"sandbox_outcome": "pending"}),
        headers=new_key(),
    ).json()
    blocked = yookassa.post("/refunds", json=refund_body(payment, "1.00"), headers=new_key())
    done = sandbox.control(f"refunds/{pending['id']}/outcome", {"outcome": "succeeded"})

    assert canceled["status"] == "canceled"
    assert canceled["cancellation_details"] == {"party": "refund_network", "reason": "insufficient_funds"}
    assert pending["status"] == "pending"
    assert blocked.status_code == 400
    assert done["status"] == "succeeded"


def test_the_shop_tells_about_itself(yookassa: httpx.Client) -> None:
    shown = yookassa.get("/me").json()

    assert shown["account_id"] == "900001"
    assert shown["test"] is True
    assert "bank_card" in shown["payment_methods"]


@pytest.mark.parametrize(("effect", "status"), [("500", 500), ("429", 429), ("500_after_execution", 500)])
def test_a_scripted_failure_hits_only_the_payment_it_names(
    sandbox: SandboxProcess, yookassa: httpx.Client, create: CreatePayment, effect: str, status: int
) -> None:
    mark = uuid4().hex
    sandbox.control("yookassa", {"next_create": effect, "match": {"metadata": {"topup_id": mark}}})
    body, key = payment_body(metadata={"topup_id": mark}), new_key()

    create()
    failed = yookassa.post("/payments", json=body, headers=key)
    repeated = yookassa.post("/payments", json=body, headers=key)

    assert failed.status_code == status
    assert repeated.status_code == 200
    found = [
        one
        for one in yookassa.get("/payments", params={"limit": 100}).json()["items"]
        if one["metadata"] == {"topup_id": mark}
    ]
    assert [one["id"] for one in found] == [repeated.json()["id"]]


def test_the_answer_of_an_executed_call_can_get_lost(sandbox: SandboxProcess, yookassa: httpx.Client) -> None:
    mark = uuid4().hex
    sandbox.control("yookassa", {"next_create": "cut_after_execution", "match": {"description": mark}})
    body, key = payment_body(description=f"Пополнение {mark}"), new_key()

    with pytest.raises(httpx.RemoteProtocolError):
        yookassa.post("/payments", json=body, headers=key)
    repeated = yookassa.post("/payments", json=body, headers=key)

    listed = yookassa.get("/payments", params={"limit": 100}).json()["items"]
    assert [one["id"] for one in listed if mark in one.get("description", "")] == [repeated.json()["id"]]


def test_a_timeout_after_execution_leaves_the_payment(
    sandbox: SandboxProcess, yookassa: httpx.Client
) -> None:
    mark = uuid4().hex
    sandbox.control("yookassa", {"next_create": "timeout_after_execution", "match": {"description": mark}})
    body, key = payment_body(description=mark), new_key()

    with pytest.raises(httpx.ReadTimeout):
        yookassa.post("/payments", json=body, headers=key, timeout=httpx.Timeout(20, read=0.5))

    assert yookassa.post("/payments", json=body, headers=key).json()["status"] == "pending"


def test_the_edge_may_answer_in_html(sandbox: SandboxProcess, yookassa: httpx.Client) -> None:
    mark = uuid4().hex
    sandbox.control("yookassa", {"next_create": "503_html", "match": {"description": mark}})

    answer = yookassa.post("/payments", json=payment_body(description=mark), headers=new_key())

    assert answer.status_code == 503
    assert answer.headers["Content-Type"].startswith("text/html")


def test_a_read_can_fail_for_one_payment(
    sandbox: SandboxProcess, yookassa: httpx.Client, create: CreatePayment
) -> None:
    payment, other = create(), create()
    sandbox.control("yookassa", {"next_read": "500", "match": {"payment_id": payment["id"]}})

    statuses = [yookassa.get(f"/payments/{one['id']}").status_code for one in (other, payment, payment)]

    assert statuses == [200, 500, 200]


def test_a_payment_can_be_made_to_lie(
    sandbox: SandboxProcess, yookassa: httpx.Client, create: CreatePayment
) -> None:
    payment = create()
    lie = {"test": False, "amount": {"value": "1.00", "currency": "RUB"}}

    sandbox.control(f"payments/{payment['id']}/tamper", lie)

    assert yookassa.get(f"/payments/{payment['id']}").json().items() >= lie.items()
