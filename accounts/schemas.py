"""Input and output of the customer API about people. Unknown fields are refused."""

from typing import Annotated, Literal
from uuid import UUID

from ninja import Schema
from pydantic import BeforeValidator, ConfigDict, Field, StringConstraints

# Long passphrases are welcome; the bound only keeps a hash from being asked of megabytes.
Password = Annotated[str, StringConstraints(min_length=1, max_length=1_024)]
Email = Annotated[str, StringConstraints(min_length=3, max_length=254)]
RefreshSecret = Annotated[str, StringConstraints(min_length=1, max_length=512)]


class Input(Schema):
    model_config = ConfigDict(extra="forbid")


def _true(value: object) -> bool:
    """1 equals True in Python; consent is given by a plain true and nothing that resembles it."""
    if value is not True:
        raise ValueError("The offer must be accepted.")
    return True


class RegisterIn(Input):
    email: Email
    password: Password
    accept_offer: Annotated[
        Literal[True], BeforeValidator(_true), Field(description="The offer in force is accepted.")
    ]
    locale: Literal["ru", "en"] = "ru"


class LoginIn(Input):
    email: Email
    password: Password
    code: Annotated[str, StringConstraints(max_length=64)] | None = None


class RefreshIn(Input):
    refresh_token: RefreshSecret


class LogoutIn(Input):
    refresh_token: RefreshSecret | None = None
    all: Annotated[bool, Field(strict=True, description="End every session, not this one only.")] = False


class ProfileOut(Schema):
    id: UUID
    email: str
    email_verified: bool
    is_operator: bool
    created_at: str


class SessionOut(Schema):
    access_token: str
    refresh_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105
    expires_in: int
    user: ProfileOut


class ConsentOut(Schema):
    document: str
    version: int
    version_id: UUID
    sha256: str
    act: str
    created_at: str


class AccountOut(ProfileOut):
    role: str
    locale: str
    unlimited: bool
    consents: list[ConsentOut]
    missing_acceptances: Annotated[
        list[str], Field(description="Documents to accept before the next paid action.")
    ]
    limits: Annotated[dict[str, int], Field(description="What may be spent, e.g. `day_micro_rub`.")]
