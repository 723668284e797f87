"""Notifications of the sandbox's YooKassa: shape, redelivery, and what scripts do to one of them."""

import httpx

from tests import web
from tests.sandbox.conftest import CreatePayment, new_key
from tests.sandbox.receiver import WebhookReceiver
from tests.sandbox_process import SandboxProcess


def finish(sandbox: SandboxProcess, payment_id: str, outcome: str = "succeeded") -> None:
    sandbox.control(f"payments/{payment_id}/outcome", {"outcome": outcome})


def states(sandbox: SandboxProcess, payment_id: str) -> list[str]:
    rows = sandbox.control(f"yookassa?object_id={payment_id}")["notifications"]
    return [row["state"] for row in rows]


def test_each_change_is_announced_with_a_snapshot(
    sandbox: SandboxProcess, receiver: WebhookReceiver, create: CreatePayment, yookassa: httpx.Client
) -> None:
    payment = create(capture=False)

    finish(sandbox, payment["id"])
    receiver.wait(lambda: len(receiver.about(payment["id"])) == 1)
    yookassa.post(f"/payments/{payment['id']}/capture", json={}, headers=new_key())
    receiver.wait(lambda: len(receiver.about(payment["id"])) == 2)

    waiting, succeeded = receiver.about(payment["id"])
    assert waiting["type"] == succeeded["type"] == "notification"
    assert [waiting["event"], succeeded["event"]] == ["payment.waiting_for_capture", "payment.succeeded"]
    assert waiting["object"]["status"] == "waiting_for_capture"
    assert succeeded["object"] == yookassa.get(f"/payments/{payment['id']}").json()


def test_cancellation_and_refund_are_announced(
    sandbox: SandboxProcess, receiver: WebhookReceiver, create: CreatePayment, yookassa: httpx.Client
) -> None:
    canceled, paid = create(), create()
    finish(sandbox, canceled["id"], "canceled:call_issuer")
    finish(sandbox, paid["id"])

    refund = yookassa.post(
        "/refunds", json={"payment_id": paid["id"], "amount": paid["amount"]}, headers=new_key()
    ).json()
    receiver.wait(lambda: len(receiver.about(paid["id"])) == 2 and len(receiver.about(canceled["id"])) == 1)

    assert receiver.about(canceled["id"])[0]["event"] == "payment.canceled"
    [announced] = receiver.about(refund["id"])
    assert announced["event"] == "refund.succeeded"
    assert announced["object"] == refund


def test_a_canceled_refund_is_not_announced(
    sandbox: SandboxProcess, receiver: WebhookReceiver, create: CreatePayment, yookassa: httpx.Client
) -> None:
    paid = create()
    finish(sandbox, paid["id"])
    body = {"payment_id": paid["id"], "amount": paid["amount"], "metadata": {"sandbox_outcome": "canceled:x"}}

    refund = yookassa.post("/refunds", json=body, headers=new_key()).json()

    assert states(sandbox, refund["id"]) == []
    assert receiver.about(refund["id"]) == []


def test_anything_but_200_is_delivered_again(
    sandbox: SandboxProcess, receiver: WebhookReceiver, create: CreatePayment
) -> None:
    payment = create()
    receiver.statuses[payment["id"]] = [500, 204]

    finish(sandbox, payment["id"])
    receiver.wait(lambda: len(receiver.about(payment["id"])) == 3)
    receiver.wait(lambda: states(sandbox, payment["id"]) == ["delivered"])

    first, second, third = receiver.about(payment["id"])
    assert first == second == third


def test_a_script_duplicates_one_notification(
    sandbox: SandboxProcess, receiver: WebhookReceiver, create: CreatePayment
) -> None:
    payment, other = create(), create()
    script = {"next_webhooks": {"duplicate": 3}, "match": {"payment_id": payment["id"]}}
    sandbox.control("yookassa", script)

    finish(sandbox, other["id"])
    finish(sandbox, payment["id"])

    receiver.wait(lambda: len(receiver.about(payment["id"])) == 3)
    receiver.wait(lambda: len(receiver.about(other["id"])) == 1)
    receiver.wait(lambda: states(sandbox, other["id"]) == ["delivered"])


def test_a_script_drops_one_notification_until_it_is_resent(
    sandbox: SandboxProcess, receiver: WebhookReceiver, create: CreatePayment
) -> None:
    payment = create()
    sandbox.control("yookassa", {"next_webhooks": {"drop": True}, "match": {"payment_id": payment["id"]}})

    finish(sandbox, payment["id"])
    dropped = states(sandbox, payment["id"])
    arrived = receiver.about(payment["id"])
    sandbox.control(f"payments/{payment['id']}/webhooks", {"action": "resend"})
    receiver.wait(lambda: len(receiver.about(payment["id"])) == 1)

    assert dropped == ["dropped"]
    assert arrived == []


def test_a_script_holds_one_notification_so_that_order_turns(
    sandbox: SandboxProcess, receiver: WebhookReceiver, create: CreatePayment, yookassa: httpx.Client
) -> None:
    payment = create(capture=False)
    sandbox.control("yookassa", {"next_webhooks": {"hold": True}, "match": {"payment_id": payment["id"]}})

    finish(sandbox, payment["id"])
    yookassa.post(f"/payments/{payment['id']}/capture", json={}, headers=new_key())
    receiver.wait(lambda: len(receiver.about(payment["id"])) == 1)
    sandbox.control(f"payments/{payment['id']}/webhooks", {"action": "release"})
    receiver.wait(lambda: len(receiver.about(payment["id"])) == 2)

    events = [one["event"] for one in receiver.about(payment["id"])]
    assert events == ["payment.succeeded", "payment.waiting_for_capture"]


def test_a_script_delays_and_spoils_notifications(
    sandbox: SandboxProcess, receiver: WebhookReceiver, create: CreatePayment
) -> None:
    slow, spoiled = create(), create()
    mark = f"spoiled {spoiled['id']}"
    for payment, effect in ((slow, {"delay_seconds": 3}), (spoiled, {"garbage": mark})):
        sandbox.control("yookassa", {"next_webhooks": effect, "match": {"payment_id": payment["id"]}})

    finish(sandbox, slow["id"])
    finish(sandbox, spoiled["id"])
    at_once = receiver.about(slow["id"])
    receiver.wait(lambda: mark.encode() in receiver.arrived)
    receiver.wait(lambda: len(receiver.about(slow["id"])) == 1)

    assert at_once == []


def test_an_unknown_script_is_refused(sandbox: SandboxProcess) -> None:
    for body in (
        {"next_webhooks": {"explode": True}},
        {"next_create": "explode"},
        {"next_create": "500", "match": {"colour": "red"}},
        {"next_create": "500", "match": {"metadata": "7f3c"}},
        {"colour": "red"},
    ):
        answer = web.post(f"{sandbox.url}/control/yookassa", json=body)
        assert answer.status_code == 400
        assert answer.json()["error"]


def test_the_control_api_takes_json_only(sandbox: SandboxProcess) -> None:
    answer = web.post(f"{sandbox.url}/control/reset-mailbox", content=b"{}")

    assert answer.status_code == 400
