"""The customer's organisation: filling it in and changing it. Documents keep what it was then."""

from datetime import datetime
from uuid import UUID

from django.db import transaction

from auditlog import journal
from auditlog.actors import Actor
from payments.invoices import requisites
from payments.invoices.errors import OrganisationRequired, WrongRequisites
from payments.invoices.models import Organisation
from payments.invoices.requisites import Party


@transaction.atomic(durable=True)
def save(*, owner_id: UUID, party: Party, now: datetime, actor: Actor) -> Organisation:
    """Make or change the owner's organisation. The journal names the changed fields, never their values.

    Raises WrongRequisites.
    """
    refuse_wrong(party)
    facts = party.as_dict()
    known, is_new = Organisation.objects.select_for_update().get_or_create(
        owner_id=owner_id, defaults={**facts, "created_at": now, "updated_at": now}
    )
    changed = [name for name, value in facts.items() if getattr(known, name) != value]
    if changed:
        for name in changed:
            setattr(known, name, facts[name])
        known.updated_at = now
        known.save(update_fields=[*changed, "updated_at"])
    if is_new or changed:
        journal.record(
            actor=actor,
            action=f"payments.organisation.{'made' if is_new else 'changed'}",
            subject=f"organisation:{known.id}",
            data={"fields": changed},
            target_user_id=owner_id,
        )
    return known


def refuse_wrong(party: Party) -> None:
    """Raise WrongRequisites with a row for each wrong field."""
    if found := requisites.faults(party):
        rows = [
            {"loc": ["body", name], "msg": str(text), "type": "value_error"} for name, text in found.items()
        ]
        raise WrongRequisites(errors=rows)


def of_owner(owner_id: UUID) -> Organisation | None:
    return Organisation.objects.filter(owner_id=owner_id).first()


def owner_of(organisation_id: UUID) -> UUID | None:
    return Organisation.objects.filter(pk=organisation_id).values_list("owner_id", flat=True).first()


def required(owner_id: UUID) -> Organisation:
    """Raises OrganisationRequired."""
    found = of_owner(owner_id)
    if found is None:
        raise OrganisationRequired
    return found


def party_of(organisation: Organisation) -> Party:
    return Party.of({name: getattr(organisation, name) for name in Party.__dataclass_fields__})
