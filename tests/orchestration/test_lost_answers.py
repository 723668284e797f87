"""The database did it, but its answer was lost: the same step sent again finds its own effect."""

from uuid import uuid4

import pytest
from django.conf import settings
from redis import Redis

from auditlog.actors import SYSTEM
from billing.models import LedgerEntry
from orchestration import catalogue, switching
from orchestration.frames import stream_key
from orchestration.models import Run, RunFrames
from plyrum.ids import uuid7
from tests import factories
from tests.orchestration.conftest import RUB, Client, credited
from tests.orchestration.run_steps import HOLD, call, open_step, settle_step
from tests.orchestration.test_runs import eventually, wait_for_archive


@pytest.mark.usefixtures("both_forms")
def test_opening_again_finds_the_own_run_with_its_hold() -> None:
    customer = credited(factories.customer(), RUB)
    step = open_step(customer.id, uuid7(), str(uuid4()))

    (first,), (again,) = call("run_open", step), call("run_open", step)

    assert (first["outcome"], first["held"]) == ("opened", HOLD)
    assert (again["outcome"], again["held"], again["run_id"]) == ("opened", HOLD, step["id"])
    assert Run.objects.filter(customer_id=customer.id).count() == 1


@pytest.mark.usefixtures("both_forms")
def test_another_run_under_the_key_is_known_and_not_opened() -> None:
    customer = credited(factories.customer(), RUB)
    key, first_id = str(uuid4()), uuid7()
    call("run_open", open_step(customer.id, first_id, key))

    (other,) = call("run_open", open_step(customer.id, uuid7(), key))

    assert (other["outcome"], other["run_id"]) == ("known", first_id)


@pytest.mark.usefixtures("both_forms")
def test_settling_again_answers_what_was_charged() -> None:
    customer = credited(factories.customer(), RUB)
    run_id = uuid7()
    call("run_open", open_step(customer.id, run_id, str(uuid4())))
    step = settle_step(customer.id, run_id)

    (first,), (again,) = call("run_settle", step), call("run_settle", step)

    assert (first["outcome"], first["charged"], first["released"]) == ("done", 700, HOLD - 700)
    assert (again["outcome"], again["charged"], again["released"]) == ("replayed", 700, HOLD - 700)
    assert again["entry_id"] == first["entry_id"]
    assert LedgerEntry.objects.filter(customer_id=customer.id, type="usage_debit").count() == 1


def test_answer_told_at_once_is_kept_with_its_charge_and_answered_again(client: Client) -> None:
    key = str(uuid4())

    first = client.run(stream=False, idempotency_key=key)

    kept = RunFrames.objects.get(run_id=first.headers["x-plyrum-run"])  # already, and nothing is in Redis
    assert f'"balance_micro_rub":{first.json()["balance_micro_rub"]},' in kept.frames
    with Redis.from_url(settings.REDIS_URL) as redis:
        assert not redis.exists(stream_key(kept.run_id))
    again = client.run(stream=False, idempotency_key=key)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json() == first.json()


def test_answer_that_was_not_charged_as_told_is_not_kept_nor_is_its_neighbour_lost() -> None:
    """Of three in a call one is above its hold and one has no hold at all."""
    customer, nobody = credited(factories.customer(), RUB), factories.customer()
    runs = [uuid7() for _ in range(3)]
    first, above, free = (
        open_step(person.id, run_id, str(uuid4()))
        for person, run_id in zip((customer, customer, nobody), runs, strict=True)
    )
    call("run_open", first, above, free | {"hold": None})
    steps = [
        settle_step(person.id, run_id, amount=amount) | {"story": f'{amount} "balance_micro_rub":null'}
        for person, run_id, amount in zip((customer, customer, nobody), runs, (700, HOLD + 1, 0), strict=True)
    ]
    steps[2]["money"] |= {"hold_id": None}

    answers = call("run_settle", *steps)

    assert [answer["outcome"] for answer in answers] == ["done", "over_hold", "done"]
    kept = dict(RunFrames.objects.filter(run_id__in=runs).values_list("run_id", "frames"))
    assert kept == {
        runs[0]: f'700 "balance_micro_rub":{RUB - HOLD - 700}',
        runs[2]: '0 "balance_micro_rub":null',
    }
    call("run_settle", *steps)
    assert RunFrames.objects.filter(run_id__in=runs).count() == 2


@pytest.mark.usefixtures("both_forms")
def test_settling_with_another_fence_is_shut_out() -> None:
    customer = credited(factories.customer(), RUB)
    run_id = uuid7()
    call("run_open", open_step(customer.id, run_id, str(uuid4())))
    call("run_settle", settle_step(customer.id, run_id))

    (late,) = call("run_settle", settle_step(customer.id, run_id, fence=2, amount=900))

    assert (late["outcome"], late["charged"]) == ("fenced", 0)


def test_replay_is_answered_although_the_model_is_switched_off(client: Client) -> None:
    model, key = "fault/unknown-finish", str(uuid4())
    first = client.run(model, idempotency_key=key)
    wait_for_archive(first.headers["x-plyrum-run"])
    switching.switch_model(model_id=model, is_enabled=False, reason="test of replays", actor=SYSTEM)
    try:
        eventually(lambda: client.run(model).status_code == 503, seconds=20)

        again = client.run(model, idempotency_key=key)
    finally:
        switching.switch_model(model_id=model, is_enabled=True, reason="test of replays", actor=SYSTEM)
        catalogue.refresh()

    assert again.status_code == 200
    assert again.content == first.content
