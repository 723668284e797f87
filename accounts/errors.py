"""What can go wrong with people, their sessions and their tokens. Codes are those of the API contract."""

from typing import Any

from plyrum.errors import Conflict, Forbidden, InvalidRequest, NotFound, Unauthenticated


class EmailTaken(Conflict):
    code = "email_taken"
    title = "This e-mail is taken"


class WeakPassword(InvalidRequest):
    """Carries `errors`, one row for each rule the password breaks."""

    title = "The password is too weak"

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        super().__init__("The password is too weak.", errors=rows)


class InvalidCredentials(Unauthenticated):
    """Unknown e-mail, wrong password and blocked account look the same."""

    code = "invalid_credentials"
    title = "The e-mail or the password is wrong"


class RefreshInvalid(Unauthenticated):
    code = "refresh_invalid"
    title = "This refresh token is not valid"


class RefreshExpired(Unauthenticated):
    code = "refresh_expired"
    title = "This refresh token has expired"


class RefreshReused(Unauthenticated):
    """The whole family is revoked: a token that was already exchanged came back."""

    code = "refresh_reused"
    title = "This refresh token was used before; every session of it has ended"


class RefreshInProgress(Conflict):
    """A parallel call has just exchanged this token; use the pair that it got."""

    code = "refresh_in_progress"
    title = "This refresh token is being exchanged by a parallel call"
    retryable = True


class TokenInvalid(Unauthenticated):
    code = "token_invalid"
    title = "This access token is not valid"


class TokenExpired(Unauthenticated):
    code = "token_expired"
    title = "This access token has expired"


class SessionEnded(Unauthenticated):
    """Signed out, blocked, or the password has changed."""

    code = "session_ended"
    title = "This session has ended"


class KeyInvalid(Unauthenticated):
    """Mistyped, made up, or of an account that is blocked."""

    code = "key_invalid"
    title = "This API key is not valid"


class KeyExpired(Unauthenticated):
    code = "key_expired"
    title = "This API key has expired"


class KeyRevoked(Unauthenticated):
    code = "key_revoked"
    title = "This API key was revoked"


class KeyNotEnough(Forbidden):
    """The key is good, but this is done by its owner signed in, never by a key."""

    title = "An API key may not do this"


class AddressNotAllowed(Forbidden):
    """The key names addresses, and the request came from another one."""

    code = "ip_not_allowed"
    title = "This API key does not work from this address"


class KeyNotFound(NotFound):
    title = "There is no such API key"


class KeyEnded(Conflict):
    """A revoked key stays as it was."""

    code = "key_ended"
    title = "This API key was revoked; it cannot be changed"


class TooManyKeys(Conflict):
    """Extra: `most`."""

    code = "too_many_keys"
    title = "There are too many API keys; revoke one first"


class UserNotFound(NotFound):
    title = "There is no such user"
