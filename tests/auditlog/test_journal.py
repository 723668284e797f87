import pytest
from django.db import transaction

from auditlog import journal
from auditlog.actors import SYSTEM, Actor
from auditlog.models import AuditEvent
from plyrum.ids import uuid7


def events_of(subject: str) -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(subject=subject).order_by("seq"))


def test_record_stands_with_the_transaction_of_the_act() -> None:
    subject = f"thing:{uuid7()}"
    actor = Actor.operator(uuid7(), ip="192.0.2.7", request_id="request-1")

    with transaction.atomic():
        journal.record(
            actor=actor, action="billing.thing.done", subject=subject, data={"amount_micro_rub": 5}
        )

    (event,) = events_of(subject)
    assert (event.actor_kind, event.actor_id) == ("operator", actor.id)
    assert (event.ip, event.request_id, event.status) == ("192.0.2.7", "request-1", "ok")
    assert event.data == {"amount_micro_rub": 5}
    assert event.seq > 0


def test_record_falls_with_the_transaction_of_the_act() -> None:
    subject = f"thing:{uuid7()}"

    with transaction.atomic():
        journal.record(actor=SYSTEM, action="billing.thing.done", subject=subject)
        transaction.set_rollback(True)

    assert events_of(subject) == []


def test_record_demands_a_transaction() -> None:
    with pytest.raises(RuntimeError, match="transaction"):
        journal.record(actor=SYSTEM, action="billing.thing.done", subject="thing:1")


@pytest.mark.parametrize("action", ["done", "Billing.thing.done", "billing.thing.done.again", "billing.", ""])
def test_record_refuses_an_action_that_is_not_named_by_the_rule(action: str) -> None:
    with transaction.atomic(), pytest.raises(ValueError, match=r"app\.noun\.verb"):
        journal.record(actor=SYSTEM, action=action, subject="thing:1")


def test_record_refuses_an_unknown_status() -> None:
    with transaction.atomic(), pytest.raises(ValueError, match="maybe"):
        journal.record(actor=SYSTEM, action="billing.thing.done", subject="thing:1", status="maybe")


def test_record_keeps_secrets_out() -> None:
    subject = f"thing:{uuid7()}"

    with transaction.atomic():
        journal.record(
            actor=SYSTEM,
            action="billing.thing.done",
            subject=subject,
            data={"password": "swordfish-77", "note": "write to anna@example.test"},
        )

    stored = str(events_of(subject)[0].data)
    assert "swordfish-77" not in stored
    assert "anna@example.test" not in stored


def test_sequence_numbers_grow_in_the_order_of_writing() -> None:
    subject = f"thing:{uuid7()}"

    for _ in range(3):
        with transaction.atomic():
            journal.record(actor=SYSTEM, action="billing.thing.done", subject=subject)

    numbers = [event.seq for event in events_of(subject)]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 3
