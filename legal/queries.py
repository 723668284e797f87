"""Reads of legal texts for the public pages: only what has been published, ever."""

from legal.errors import DocumentNotFound
from legal.models import DocumentVersion, LegalDocument


def public_version(kind: str, number: int, *, locale: str) -> DocumentVersion:
    """One published version by number, in `locale` or else in any language. Raises DocumentNotFound."""
    found = list(
        DocumentVersion.objects.of_kind(kind).public().filter(number=number).select_related("document")
    )
    if not found:
        raise DocumentNotFound("There is no such version.")
    return next((version for version in found if version.document.locale == locale), found[0])


def archive() -> list[tuple[str, list[DocumentVersion]]]:
    """Every kind with all its published versions, newest first: (title of the kind, versions)."""
    versions = DocumentVersion.objects.public().select_related("document").order_by("-effective_from", "-id")
    by_kind: dict[str, list[DocumentVersion]] = {}
    for version in versions.defer("text"):
        by_kind.setdefault(version.document.kind, []).append(version)
    return [
        (str(LegalDocument.Kind(kind).label), by_kind[kind]) for kind in LegalDocument.Kind if kind in by_kind
    ]
