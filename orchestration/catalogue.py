"""The catalogue: loaded from TOML into rows, read by everybody as one immutable snapshot in memory.

Prices are versions (billing.PriceVersion): loading the same file twice changes nothing, a changed price adds
a version. A model that a file no longer names is no longer listed, never deleted; an operator's switch is
left alone.
"""

import hashlib
import tomllib
from collections.abc import Set
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction

from auditlog import journal
from auditlog.actors import Actor
from billing import money, prices, queries
from billing.models import FxRate, PriceVersion
from legal import documents
from legal.errors import DocumentNotPublished
from legal.models import LegalDocument
from orchestration import catalogue_file
from orchestration.catalogue_file import CatalogueError, ModelRow, ProviderRow
from orchestration.models import CatalogueVersion, Model, Provider
from orchestration.providers import registry
from orchestration.shapes import Offer
from plyrum import clock


@dataclass(frozen=True)
class Snapshot:
    """Everything a decision needs, of one moment: offers by id, provider addresses, the offer in force."""

    version: int
    fx_rate_ids: frozenset[int]  # the rates that prices are computed with
    offers: dict[str, Offer]
    base_urls: dict[str, str]
    binding_terms: frozenset[UUID]  # versions of the public offer whose acceptance counts
    terms_in_force: dict[str, Any]  # document, version, version_id, sha256 of the one to accept now


_snapshot: Snapshot | None = None


def current() -> Snapshot:
    """The snapshot of this process, made at the first call."""
    return _snapshot if _snapshot is not None else refresh()


def refresh() -> Snapshot:
    """Read the tables again if anything newer was published, or a rate has become too old to sell by.

    An old snapshot stays good to its holder.
    """
    global _snapshot
    now = clock.now()
    newest, rates = _newest_version(), queries.fresh_rates(now=now)
    terms = documents.binding_version_ids(LegalDocument.Kind.OFFER, at=now)
    facts = (newest, _ids(rates), terms)
    known = _snapshot
    if known is None or (known.version, known.fx_rate_ids, known.binding_terms) != facts:
        _snapshot = known = _read(newest, rates, terms)
    return known


def is_loaded() -> bool:
    return bool(current().offers)


def names() -> dict[str, str]:
    """The models on offer: label by id."""
    return {key: offer.label for key, offer in refresh().offers.items() if offer.price is not None}


def load(path: Path, *, now: datetime, actor: Actor) -> CatalogueVersion:
    """Load a catalogue file: providers, models and prices in one transaction, one journal entry.

    Raises CatalogueError for a file that is missing, malformed, or names a price that cannot be sold.
    """
    text, provider_rows, model_rows = catalogue_file.read(path)
    with transaction.atomic(durable=True):
        _one_load_at_a_time()
        providers = [_save_provider(row) for row in provider_rows]
        models = [_save_model(row, path, now) for row in model_rows]
        Model.objects.exclude(id__in=models).filter(is_listed=True).update(is_listed=False)
        version = CatalogueVersion.objects.create(
            sha256=hashlib.sha256(text.encode()).hexdigest(), source=path.name
        )
        journal.record(
            actor=actor,
            action="orchestration.catalogue.loaded",
            subject=f"catalogue:{version.number}",
            data={"providers": len(providers), "models": len(models), "sha256": version.sha256},
        )
    return version


def load_rates(path: Path) -> int:
    """Add the rates of a snapshot file that are not known yet; returns how many were added."""
    try:
        rows = tomllib.loads(catalogue_file.text_of(path))["rate"]
        return sum(
            prices.add_rate(
                currency=row["currency"],
                micro_rub=money.micro_units(row["rub"]),
                source=row["source"],
                rate_date=date.fromisoformat(str(row["date"])),
            )
            for row in rows
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CatalogueError(f"{path.name}: {error}") from error


def _one_load_at_a_time() -> None:
    """Two deployments that load at once would both add the next number of a price."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = 0")  # a load takes seconds, and several may be before it
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('orchestration.catalogue.load'))")


def _save_provider(row: ProviderRow) -> str:
    facts = {"label": row.label or row.id, "wire": row.wire, "base_url": row.base_url, "country": row.country}
    Provider.objects.update_or_create(id=row.id, defaults=facts)
    return row.id


def _save_model(row: ModelRow, path: Path, now: datetime) -> str:
    if not Provider.objects.filter(id=row.provider).exists():
        raise CatalogueError(f"{path.name}: model {row.id} names an unknown provider.")
    facts = row.model_dump(exclude={"id", "provider", "price", "markup_bp", "enabled"})
    facts |= {"provider_id": row.provider, "is_listed": row.enabled}
    Model.objects.update_or_create(id=row.id, defaults=facts)
    try:
        price = row.price.model_dump(exclude_none=True)
        prices.publish(sku=row.id, price=price, markup_bp=row.markup_bp, now=now)
    except ValueError as error:
        raise CatalogueError(f"{path.name}: the price of {row.id}: {error}") from error
    return row.id


def _newest_version() -> int:
    row = CatalogueVersion.objects.order_by("-number").first()
    return row.number if row is not None else 0


def _ids(rates: dict[str, FxRate]) -> frozenset[int]:
    return frozenset(rate.pk for rate in rates.values())


def _read(version: int, rates: dict[str, FxRate], terms: frozenset[UUID]) -> Snapshot:
    stale = queries.current_rates().keys() - rates.keys()
    priced = {row.sku: row for row in queries.current_prices()}
    urls: dict[str, str] = {}
    for provider in Provider.objects.all():
        try:
            urls[provider.id] = registry.base_url_of(provider.id, provider.base_url)
        except ImproperlyConfigured:
            continue  # without a safe address its models are shown as not configured
    offers = {
        row.id: _offer(row, priced.get(row.id), rates, stale, row.provider_id in urls)
        for row in Model.objects.select_related("provider").order_by("id")
    }
    return Snapshot(version, _ids(rates), offers, urls, terms, _terms_in_force())


def _terms_in_force() -> dict[str, Any]:
    try:
        current = documents.current(LegalDocument.Kind.OFFER, at=clock.now())
    except DocumentNotPublished:
        return {"document": LegalDocument.Kind.OFFER.value}
    return {
        "document": LegalDocument.Kind.OFFER.value,
        "version": current.number,
        "version_id": str(current.id),
        "sha256": current.sha256,
    }


def _offer(
    row: Model, version: PriceVersion | None, rates: dict[str, FxRate], stale: Set[str], has_address: bool
) -> Offer:
    price = None
    if version is not None and (version.currency == "RUB" or version.currency in rates):
        price = prices.price_of(version, rates.get(version.currency))
    quality = row.quality if isinstance(row.quality, int | float) else row.quality.get("general", 0.5)
    return Offer(
        id=row.id,
        label=row.label,
        description_ru=row.description_ru,
        provider=row.provider_id,
        provider_label=row.provider.label,
        wire=row.provider.wire,
        country=row.provider.country,
        upstream_id=row.upstream_id,
        capabilities=tuple(row.capabilities),
        context_tokens=row.context_tokens,
        max_output_tokens=row.max_output_tokens,
        quality=float(quality),
        privacy_tier=row.privacy_tier,
        hosted_region=row.hosted_region,
        risk=row.risk,
        price=price,
        has_stale_rate=version is not None and version.currency in stale,
        is_enabled=row.is_listed and row.is_enabled and row.provider.is_enabled,
        is_configured=has_address
        and bool(settings.PROVIDER_API_KEYS.get(registry.environment_name(row.provider_id)))
        and row.provider.wire in registry.ADAPTERS,
    )
