"""Switch a model or a provider off and on: the operator's act. Called by the back office.

Each act adds a catalogue version, so that every process reads its snapshot anew within seconds. A run that
has begun goes on: what it may ask was decided when it was opened.
"""

from django.db import transaction

from auditlog import journal
from auditlog.actors import Actor
from orchestration.errors import AlreadySwitched
from orchestration.models import CatalogueVersion, Model, Provider
from plyrum.errors import NotFound


@transaction.atomic(durable=True)
def switch_model(*, model_id: str, is_enabled: bool, reason: str, actor: Actor) -> CatalogueVersion:
    """Offer a model, or stop offering it. Raises NotFound, AlreadySwitched."""
    changed = Model.objects.filter(pk=model_id).exclude(is_enabled=is_enabled).update(is_enabled=is_enabled)
    if not changed:
        raise _refusal(Model.objects.filter(pk=model_id).exists())
    return _publish("model", model_id, is_enabled, reason, actor)


@transaction.atomic(durable=True)
def switch_provider(*, provider_id: str, is_enabled: bool, reason: str, actor: Actor) -> CatalogueVersion:
    """Offer every model of a provider that is itself on, or none. Raises NotFound, AlreadySwitched."""
    rows = Provider.objects.filter(pk=provider_id)
    if not rows.exclude(is_enabled=is_enabled).update(is_enabled=is_enabled):
        raise _refusal(rows.exists())
    return _publish("provider", provider_id, is_enabled, reason, actor)


def _publish(kind: str, subject: str, is_enabled: bool, reason: str, actor: Actor) -> CatalogueVersion:
    """The loaded file stays the same, so its hash does: the version says what was switched."""
    last = CatalogueVersion.objects.order_by("-number").first()
    done = "enabled" if is_enabled else "disabled"
    version = CatalogueVersion.objects.create(
        sha256=last.sha256 if last is not None else "", source=f"{kind} {subject} {done}"[:200]
    )
    journal.record(
        actor=actor,
        action=f"orchestration.{kind}.{done}",
        subject=f"{kind}:{subject}",
        data={"reason": reason, "catalogue_version": version.number},
    )
    return version


def _refusal(exists: bool) -> NotFound | AlreadySwitched:
    return AlreadySwitched("It is switched so already.") if exists else NotFound("There is no such row.")
