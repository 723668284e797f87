"""Public pages of the legal documents: the text in force, earlier versions, the archive. For everybody."""

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from legal import documents, queries, texts
from legal.errors import DocumentNotFound, DocumentNotPublished
from legal.models import DocumentVersion, LegalDocument
from plyrum import clock


@require_safe
def document(request: HttpRequest, kind: str) -> HttpResponse:
    """The text in force; 404 for an unknown kind, 503 while nothing is published."""
    if kind not in LegalDocument.Kind.values:
        raise Http404
    try:
        version = documents.current(kind, _locale(), at=clock.now())
    except DocumentNotPublished:
        return render(request, "503.html", status=503)
    return _page(request, version, is_in_force=True)


@require_safe
def version(request: HttpRequest, kind: str, number: int) -> HttpResponse:
    """Any version that was ever published."""
    try:
        found = queries.public_version(kind, number, locale=_locale())
        in_force = documents.current(kind, found.document.locale, at=clock.now())
    except (DocumentNotFound, DocumentNotPublished) as error:
        raise Http404 from error
    return _page(request, found, is_in_force=found.pk == in_force.pk)


@require_safe
def archive(request: HttpRequest) -> HttpResponse:
    """All published versions with dates and hashes."""
    return render(
        request, "legal/archive/index.html", {"title": _("Архив документов"), "kinds": queries.archive()}
    )


def _page(request: HttpRequest, found: DocumentVersion, *, is_in_force: bool) -> HttpResponse:
    return render(
        request,
        "legal/document.html",
        {
            "title": found.title,
            "kind": found.document.kind,
            "version": found.number,
            "effective_from": found.effective_from,
            "sha256": found.sha256,
            "body_html": found.text,
            "is_in_force": is_in_force,
            "is_draft": bool(texts.draft_markers(found.text)),
        },
    )


def _locale() -> str:
    return get_language() or documents.SOURCE_LOCALE
