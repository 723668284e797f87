"""What the composer sends, checked."""

from uuid import UUID

from django.http import HttpRequest
from django.http.request import QueryDict

from playground.asking import Question
from playground.errors import QuestionInvalid
from playground.offers import AUTO

MAX_TEXT_CHARS = 100_000  # as the field of the page says
MAX_MODEL_CHARS = 100
JSON = "application/json"


def question(data: QueryDict, thread_id: UUID | None) -> Question:
    """Raises QuestionInvalid with the name of the wrong field."""
    try:
        key = UUID(data.get("idempotency_key", ""))
    except ValueError as error:
        raise QuestionInvalid("The key of the form is missing.", field="idempotency_key") from error
    return Question(text=text(data), model=model(data), key=key, thread_id=thread_id)


def text(data: QueryDict) -> str:
    """The question, or the chosen starter of an empty field. Raises QuestionInvalid."""
    written = (data.get("text", "").strip() or data.get("starter", "").strip()).replace("\r\n", "\n")
    if not written or len(written) > MAX_TEXT_CHARS or "\0" in written:
        raise QuestionInvalid("Write a question.", field="text")
    return written


def model(data: QueryDict) -> str:
    """Raises QuestionInvalid for what cannot be a model's id; whether there is such a model routing says."""
    named = data.get("model", "") or AUTO
    if len(named) > MAX_MODEL_CHARS or "\0" in named:
        raise QuestionInvalid("Choose a model.", field="model")
    return named


def wants_json(request: HttpRequest) -> bool:
    """The chat's script asks for JSON by name; a form without scripts does not."""
    return JSON in request.headers.get("Accept", "")
