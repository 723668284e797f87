"""Limits of a plan, for each of its subscribers, and of an organisation, which its members share."""

from datetime import timedelta
from uuid import UUID

from django.core import mail
from django.test import Client

from accounts.models import Notice, User
from accounts.tasks import send_notice
from auditlog.actors import Actor
from billing import limit_alerts, limits, policies
from billing.limit_models import SpendLimit, Window
from plans import offers
from plyrum import clock
from plyrum.ids import uuid7
from tests import factories
from tests.billing import books
from tests.billing.books import RUB
from tests.payments.invoices.firm import firm
from tests.plans import world
from tests.plans.world import withdrawn  # noqa: F401

WHY = "Проверка расходов"


def limit(subject: str, rub: int) -> SpendLimit:
    actor = Actor.operator(factories.operator("finance").id)
    return limits.set_limit(
        subject=subject,
        window=Window.MONTH,
        limit_micro_rub=rub * RUB,
        reason=WHY,
        now=clock.now(),
        actor=actor,
    )


def hold(user: User, rub: int) -> str:
    """As the engine does it: held, or the kind of the limit that is full."""
    policy = policies.of(user.id, now=clock.now())
    answer = books.hold(user.id, rub * RUB, limits=policy.steps())
    if answer["outcome"] != "limit_exceeded":
        return str(answer["outcome"])
    return policy.counted[answer["limit_place"]].kind


def join(user: User, organisation_id: UUID) -> None:
    offers.add_member(
        email=user.email,
        organisation_id=organisation_id,
        reason=WHY,
        now=clock.now(),
        actor=Actor.operator(factories.operator().id),
    )


def test_members_share_the_limit_of_their_organisation() -> None:
    first, second, stranger, organisation_id = (*(world.customer() for _ in range(3)), uuid7())
    for member in (first, second):
        join(member, organisation_id)
    join(stranger, uuid7())
    limit(f"organisation:{organisation_id}", 10)

    assert [hold(first, 6), hold(second, 5), hold(second, 4), hold(first, 1)] == [
        "held", "organisation", "held", "organisation",
    ]  # fmt: skip
    assert hold(stranger, 20) == "held"
    policy = policies.of(second.id, now=clock.now())
    (meter,) = policies.meters(policy, now=clock.now())
    assert (meter.limit.kind, meter.used_micro_rub, meter.limit.limit_micro_rub) == (
        "organisation", 10 * RUB, 10 * RUB,
    )  # fmt: skip
    client = Client()
    client.force_login(second)
    assert "Организация за месяц" in client.get("/app/wallet").content.decode()
    limits.lift(
        subject=f"organisation:{organisation_id}",
        window=Window.MONTH,
        reason=WHY,
        now=clock.now(),
        actor=Actor.operator(factories.operator("finance").id),
    )
    assert hold(first, 1) == "held"
    offers.remove_member(customer_id=first.id, reason=WHY, actor=Actor.operator(factories.operator().id))
    assert policies.of(first.id, now=clock.now()).limits == ()


def test_owner_of_an_organisation_is_told_once_how_much_of_its_limit_is_spent() -> None:
    owner, member, strangers = world.customer(), world.customer(), uuid7()
    organisation = firm(owner)
    join(member, organisation.id)
    limit(f"organisation:{organisation.id}", 10)
    limit(f"organisation:{strangers}", 10)  # nobody's: no reader, and no reason to fail

    for rub in (4, 5):
        steps = policies.of(member.id, now=clock.now()).steps()
        books.settle(member.id, books.held(member.id, rub * RUB, limits=steps), rub * RUB)
        for _ in range(2):
            limit_alerts.write(now=clock.now())

    (notice,) = Notice.objects.filter(letter="limit_reached", user_id__in=[owner.id, member.id])
    assert (notice.user_id, notice.facts["mark"], notice.facts["whose"]) == (owner.id, 90, "organisation")
    send_notice(notice_id=str(notice.pk))
    (letter,) = [sent for sent in mail.outbox if sent.to == [owner.email]]
    assert letter.subject == "Лимит организации: потрачено 90 %"
    assert "Лимит один на всех участников организации." in letter.body


def test_each_subscriber_has_the_limit_of_the_plan() -> None:
    now = clock.now()
    version, other = world.plan(grant=200), world.plan(grant=200)
    first, second, stranger = (world.customer() for _ in range(3))
    for user in (first, second):
        world.activate(user, version, now)
    world.activate(stranger, other, now)
    row = limit(f"plan:{version.plan_id}", 10)

    assert [hold(first, 6), hold(first, 5), hold(second, 6), hold(stranger, 20)] == [
        "held", "user", "held", "held",
    ]  # fmt: skip
    (applied,) = policies.of(first.id, now=clock.now()).limits
    assert (applied.subject, applied.limit_micro_rub) == (limits.user_subject(first.id), 10 * RUB)
    assert policies.by_window(first.id, now=clock.now()) == {"month_micro_rub": 10 * RUB}
    assert policies.of(first.id, now=now - timedelta(days=1)).limits == ()  # it had not begun
    limits.remove_limit(limit_id=row.pk, reason=WHY, actor=Actor.operator(factories.operator().id))
    assert hold(first, 5) == "held"
