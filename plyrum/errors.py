"""What can go wrong, as families of errors that know their HTTP status.

Apps subclass a family once per situation in their own `errors.py`; doors show any of them without knowing it.
`detail` is safe to show to anybody, `extra` becomes further members of the problem document (RFC 9457).
"""

from typing import Any, ClassVar


class PlyrumError(Exception):
    """An expected failure: a stable `code`, an HTTP `status`, a `title` and a safe `detail`."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    retryable: ClassVar[bool] = False
    retry_after_seconds: int | None = None
    is_replay = False  # the same refusal as before, by its idempotency key

    def __init__(self, detail: str = "", **extra: Any) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or str(self.title)
        self.extra = extra


class InvalidJson(PlyrumError):
    code, status, title = "invalid_json", 400, "The body is not valid JSON"


class BadRequest(PlyrumError):
    code, status, title = "bad_request", 400, "The request cannot be understood"


class HttpsRequired(PlyrumError):
    """Whatever the call carried has crossed the network in clear: a key in it is best revoked."""

    code, status, title = "https_required", 400, "Call the API over https"


class InvalidRequest(PlyrumError):
    code, status, title = "validation_failed", 422, "The request has wrong fields"


class Unauthenticated(PlyrumError):
    code, status, title = "unauthenticated", 401, "Sign in or send a valid token"


class PaymentRequired(PlyrumError):
    code, status, title = "payment_required", 402, "There is not enough money"


class Forbidden(PlyrumError):
    code, status, title = "forbidden", 403, "You may not do this"


class NotFound(PlyrumError):
    code, status, title = "not_found", 404, "Nothing is found here"


class MethodNotAllowed(PlyrumError):
    code, status, title = "method_not_allowed", 405, "This method is not offered here"


class Conflict(PlyrumError):
    code, status, title = "conflict", 409, "The state has changed"


class Gone(PlyrumError):
    code, status, title = "gone", 410, "This is no longer kept"


class BodyTooLarge(PlyrumError):
    code, status, title = "body_too_large", 413, "The body is too large"


class TooManyRequests(PlyrumError):
    code, status, title, retryable = "rate_limited", 429, "Too many requests", True

    def __init__(
        self, detail: str = "", *, retry_after_seconds: int = 1, limit: int | None = None, **extra: Any
    ) -> None:
        """`limit`: how many requests the window allows, for the X-RateLimit headers."""
        super().__init__(detail, **extra)
        self.retry_after_seconds = retry_after_seconds
        self.limit = limit


class Unavailable(PlyrumError):
    code, status, title, retryable = "unavailable", 503, "The service is not available now", True


class AdapterError(Exception):
    """A failure of an outside service. Never leaves a domain module untranslated.

    `retryable`: the same call may be repeated. `outcome_unknown`: the other side may have executed it.
    """

    def __init__(self, provider: str, detail: str, *, retryable: bool, outcome_unknown: bool = False) -> None:
        super().__init__(f"{provider}: {detail}")
        self.provider = provider
        self.detail = detail
        self.retryable = retryable
        self.outcome_unknown = outcome_unknown
