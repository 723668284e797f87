"""What can go wrong with legal texts."""

from plyrum.errors import Conflict, InvalidRequest, NotFound, Unavailable


class DocumentNotPublished(Unavailable):
    code = "document_not_published"
    title = "A legal document has no text in force"


class DocumentNotFound(NotFound):
    title = "There is no such document"


class TermsOutdated(Conflict):
    """Carries `document`, `version_id` and `version`: what is in force and has to be accepted."""

    code = "terms_outdated"
    title = "Accept the version in force first"


class VersionNotReady(Conflict):
    """The text may not take its next step; `reasons` lists why."""

    code = "document_not_ready"
    title = "This version may not be published yet"


class TextMissing(InvalidRequest):
    code = "document_text_missing"
    title = "There is no usable text for this version"


class ApprovalMissing(InvalidRequest):
    code = "approval_missing"
    title = "An approval needs its reference"
