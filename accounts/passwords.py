"""Whether a password is good enough, in the words of the API. The rules stand in the settings."""

from django.contrib.auth.hashers import make_password
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.utils import translation

from accounts.errors import WeakPassword
from accounts.models import User


def require_strong(password: str, *, email: str) -> None:
    """Raise WeakPassword with one row per broken rule; the e-mail may not be the password."""
    try:
        with translation.override("en"):  # as all texts of the API
            validate_password(password, User(email=email))
    except ValidationError as error:
        raise WeakPassword(
            [
                {
                    "loc": ["body", "password"],
                    "msg": " ".join(rule.messages),
                    "type": rule.code or "weak",
                }
                for rule in error.error_list
            ]
        ) from error


def spend_the_time_of_a_check(password: str) -> None:
    """Hash in vain, so that an unknown e-mail takes as long as a wrong password."""
    make_password(password)
