"""What YooKassa answers when it refuses, and the body it uses for that.

Raised anywhere under `sandbox.yookassa`, turned into an answer by `api`.
"""

from uuid import uuid4

from sandbox.yookassa.shapes import Json


class ApiError(Exception):
    """A refusal with HTTP status, stable code, English text and, for a bad field, its dotted path."""

    def __init__(
        self,
        status: int,
        code: str,
        description: str,
        *,
        parameter: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(description)
        self.status = status
        self.code = code
        self.description = description
        self.parameter = parameter
        self.retry_after_ms = retry_after

    def body(self) -> Json:
        """Build the published error object; `parameter`, `retry_after` (ms) only when they say something."""
        body: Json = {"type": "error", "id": str(uuid4()), "code": self.code, "description": self.description}
        if self.parameter is not None:
            body["parameter"] = self.parameter
        if self.retry_after_ms is not None:
            body["retry_after"] = self.retry_after_ms
        return body


def invalid(description: str, parameter: str | None = None) -> ApiError:
    return ApiError(400, "invalid_request", description, parameter=parameter)


def forbidden(description: str, parameter: str | None = None) -> ApiError:
    return ApiError(403, "forbidden", description, parameter=parameter)


def not_found(what: str) -> ApiError:
    return ApiError(404, "not_found", f"{what} doesn't exist or access to it is denied")
