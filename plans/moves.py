"""The timeline of a subscription: a row and a journal entry for everything that happens to it."""

from datetime import datetime

from auditlog import journal
from auditlog.actors import Actor
from plans.models import Subscription, SubscriptionMove
from plyrum.transactions import require_transaction

Kind = SubscriptionMove.Kind


def record(
    subscription: Subscription,
    kind: SubscriptionMove.Kind,
    *,
    now: datetime,
    actor: Actor,
    client_key: str = "",
    fingerprint: str = "",
    reason: str = "",
    **facts: object,
) -> None:
    """Write down what happened, in the transaction in which it did; `facts` are plain JSON."""
    require_transaction()
    SubscriptionMove.objects.create(
        subscription=subscription,
        customer_id=subscription.customer_id,
        kind=kind,
        state=subscription.state,
        client_key=client_key,
        fingerprint=fingerprint,
        reason=reason,
        created_at=now,
    )
    journal.record(
        actor=actor,
        action=f"plans.subscription.{kind}",
        subject=f"subscription:{subscription.id}",
        data={"plan": subscription.plan_id, "state": subscription.state, "reason": reason, **facts},
        target_user_id=subscription.customer_id,
    )
