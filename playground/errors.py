"""What can go wrong with a conversation."""

from plyrum.errors import InvalidRequest, NotFound, Unauthenticated


class ThreadNotFound(NotFound):
    title = "There is no such conversation"


class MessageNotFound(NotFound):
    title = "There is no such message"


class QuestionInvalid(InvalidRequest):
    """Extra: `field`, the part of the form that is wrong: text, model or idempotency_key."""


class SignedOut(Unauthenticated):
    title = "Sign in again"
