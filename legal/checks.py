"""Launch checks of the legal texts: each required document is approved, published, unmarked and unchanged.

They read rows, so they run when databases are named: `check --deploy --database default`.
"""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

from legal import documents, texts
from legal.errors import DocumentNotPublished
from legal.models import DocumentVersion
from plyrum import clock

TAG = "launch"
_HINT = (
    "Put the approved text into templates/legal/<kind>/<number>.html, "
    "then draft, approve and publish it in the admin."
)


@register(TAG, deploy=True)
def seller_is_named(**_: Any) -> list[CheckMessage]:
    """Every public page and document names the seller (149-FZ art. 10, consumer law art. 9)."""
    variables = {
        "name": "PLYRUM_SELLER_LEGAL_NAME",
        "inn": "PLYRUM_SELLER_TAX_ID",
        "address": "PLYRUM_SELLER_REGISTERED_ADDRESS",
        "email": "PLYRUM_SUPPORT_EMAIL",
        "refund_email": "PLYRUM_REFUND_SUPPORT_EMAIL",
        "privacy_email": "PLYRUM_PRIVACY_CONTACT_EMAIL",
    }
    empty = [variable for fact, variable in variables.items() if not settings.SELLER.get(fact)]
    return [Warning(f"{variable} is empty.", hint=f"Set {variable}.", id="legal.W001") for variable in empty]


@register(TAG, deploy=True)
def documents_are_in_force(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Registration and payment stand on these texts; a missing or unfinished one blocks the launch."""
    if not databases:
        return []
    found: list[CheckMessage] = []
    for kind in documents.REQUIRED_KINDS:
        try:
            version = documents.current(kind, at=clock.now())
        except DocumentNotPublished:
            found.append(Error(f"The document {kind} has no text in force.", hint=_HINT, id="legal.E001"))
            continue
        found += [Error(text, hint=_HINT, id=check_id) for check_id, text in _faults(kind, version)]
    return found


def _faults(kind: str, version: DocumentVersion) -> list[tuple[str, str]]:
    faults = []
    if not version.approval_ref:
        faults.append(("legal.E002", f"The text of {kind} in force was never approved."))
    if marks := texts.draft_markers(version.text):
        faults.append(
            ("legal.E003", f"The text of {kind} in force is marked as unfinished: {', '.join(marks)}.")
        )
    if texts.digest(version.text) != version.sha256:
        faults.append(("legal.E004", f"The text of {kind} in force does not match its hash."))
    return faults
