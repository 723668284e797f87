"""Reads of payments. A lookup by an outside id carries its access rule: foreign and missing look the same."""

from uuid import UUID

from payments.errors import PaymentNotFound
from payments.models import Payment, PaymentQuerySet
from payments.shapes import RemotePayment


def own(customer_id: UUID, payment_id: str | UUID) -> Payment:
    """The customer's payment. Raises PaymentNotFound for a malformed, missing or foreign id alike."""
    wanted = as_id(str(payment_id))
    found = Payment.objects.owned_by(customer_id).filter(pk=wanted).first() if wanted else None
    if found is None:
        raise PaymentNotFound("There is no such payment.")
    return found


def of_customer(customer_id: UUID) -> PaymentQuerySet:
    """The customer's payments; order them by `id`."""
    return Payment.objects.owned_by(customer_id)


def behind(remote: RemotePayment) -> UUID | None:
    """Our payment behind the provider's object: by its id, or by our id in its metadata while the create
    call's answer is not stored yet.
    """
    rows = Payment.objects.values_list("pk", flat=True)
    found = rows.filter(provider_payment_id=remote.id).first()
    ours = as_id(remote.payment_id)
    if found is None and ours is not None:
        found = rows.filter(pk=ours, provider_payment_id__isnull=True).first()
    return found


def as_id(text: str) -> UUID | None:
    """The id written in `text`, None for anything else."""
    try:
        return UUID(text)
    except ValueError:
        return None
