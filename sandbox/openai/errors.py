"""What the provider answers when it refuses, in OpenAI's error shape.

Raised by `requests` and `faults`, turned into an answer by `door`.
"""

import orjson


class ProviderError(Exception):
    """A refusal with HTTP status, type, code, the parameter at fault and extra headers."""

    def __init__(
        self,
        status: int,
        code: str | None,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.kind = kind
        self.param = param
        self.headers = headers

    def body(self) -> bytes:
        """Build `{"error": {"message", "type", "param", "code"}}`."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return orjson.dumps({"error": error})


def invalid(message: str, param: str | None, code: str | None = None) -> ProviderError:
    return ProviderError(400, code, message, param=param)


def bad_key() -> ProviderError:
    return ProviderError(401, "invalid_api_key", "Incorrect API key provided.")


def unknown_model(model: str) -> ProviderError:
    message = f"The model `{model[:80]}` does not exist or you do not have access to it."
    return ProviderError(404, "model_not_found", message, param="model")
