from datetime import timedelta
from uuid import UUID

import pytest
from django.db import transaction

from auditlog.actors import Actor
from auditlog.models import AuditEvent
from legal import acceptances, documents
from legal.models import Acceptance, DocumentVersion
from plyrum import clock
from plyrum.ids import uuid7
from tests import factories
from tests.legal.conftest import MakeVersion
from tests.threads import at_once


def accept(user_id: UUID, version: DocumentVersion, order_id: UUID | None = None) -> Acceptance:
    with transaction.atomic():
        return acceptances.record(
            user_id=user_id,
            version=version,
            act="checkout" if order_id else "account",
            order_id=order_id,
            surface="site",
            locale="ru",
            user_agent="Browser/1 " + "x" * 1_000,
            now=clock.now(),
            actor=Actor.customer(user_id, ip="192.0.2.1", request_id="request-9"),
        )


@pytest.fixture
def offer() -> DocumentVersion:
    return documents.current("offer", at=clock.now())


def test_acceptance_keeps_what_proves_it(offer: DocumentVersion) -> None:
    user_id, order_id = uuid7(), uuid7()

    row = accept(user_id, offer, order_id)

    row.refresh_from_db()
    assert (row.version, row.sha256) == (offer, offer.sha256)
    assert (row.act, row.order_id, row.surface, row.locale) == ("checkout", order_id, "site", "ru")
    assert (row.ip, row.request_id) == ("192.0.2.1", "request-9")
    assert len(row.user_agent) == 400
    event = AuditEvent.objects.get(action="legal.acceptance.recorded", target_user_id=user_id)
    assert event.data == {"act": "checkout", "sha256": offer.sha256, "order_id": str(order_id)}


def test_accepting_twice_keeps_the_first_row(offer: DocumentVersion) -> None:
    user_id = uuid7()

    first, second = accept(user_id, offer), accept(user_id, offer)

    assert first.pk == second.pk
    assert AuditEvent.objects.filter(target_user_id=user_id).count() == 1


def test_each_order_has_an_acceptance_of_its_own(offer: DocumentVersion) -> None:
    user_id = uuid7()

    rows = {accept(user_id, offer, order_id).pk for order_id in (None, uuid7(), uuid7())}

    assert len(rows) == 3


def test_parallel_acceptances_leave_one_row(offer: DocumentVersion) -> None:
    user_id = uuid7()

    rows = at_once(8, lambda: accept(user_id, offer).pk)

    assert len(set(rows)) == 1
    assert Acceptance.objects.filter(user_id=user_id).count() == 1
    assert AuditEvent.objects.filter(target_user_id=user_id).count() == 1


def test_record_demands_a_transaction(offer: DocumentVersion) -> None:
    with pytest.raises(RuntimeError, match="transaction"):
        acceptances.record(
            user_id=uuid7(),
            version=offer,
            act="account",
            surface="site",
            locale="ru",
            user_agent="",
            now=clock.now(),
            actor=Actor.customer(uuid7()),
        )


def test_new_customer_misses_nothing() -> None:
    user = factories.customer()

    assert acceptances.missing_for(user.id, at=clock.now()) == []
    accepted = acceptances.accepted_version(user.id)
    assert accepted == documents.current("offer", at=clock.now())


def test_somebody_who_accepted_nothing_misses_the_offer() -> None:
    user_id = uuid7()

    assert acceptances.missing_for(user_id, at=clock.now()) == ["offer"]
    assert acceptances.accepted_version(user_id) is None
    assert acceptances.of_user(user_id) == []


def test_material_change_asks_again_and_a_small_one_does_not(make_version: MakeVersion) -> None:
    now, user_id = clock.now(), uuid7()
    first = make_version(1, kind="tariffs", status="superseded", effective_from=now - timedelta(days=9))
    make_version(
        2,
        kind="tariffs",
        status="superseded",
        effective_from=now - timedelta(days=6),
        is_material_change=False,
    )
    make_version(3, kind="tariffs", status="published", effective_from=now - timedelta(days=3))
    accept(user_id, first)

    def missing(days_ago: int) -> list[str]:
        return acceptances.missing_for(user_id, at=now - timedelta(days=days_ago), kinds=["tariffs"])

    assert [missing(8), missing(5), missing(1)] == [[], [], ["tariffs"]]


def test_own_acceptances_are_listed_newest_first(make_version: MakeVersion, offer: DocumentVersion) -> None:
    user_id = uuid7()
    other = make_version(1, status="published")

    accept(user_id, offer)
    accept(user_id, other)

    assert [row.version for row in acceptances.of_user(user_id)] == [other, offer]
