"""The one form of an e-mail address in which people are stored and looked up. Pure."""

import unicodedata

from django.core.exceptions import ValidationError
from django.core.validators import validate_email

MAX_CHARS = 254  # RFC 5321: a forward path of 256 with its brackets


def normalise(address: str) -> str:
    """Trim and lower-case the whole address, turn the domain into IDNA; no dot or plus tricks.

    The result is ASCII for every valid address, so that the database and Python agree on lower case.
    Raises ValueError when it is not an address.
    """
    local, at, domain = unicodedata.normalize("NFC", address).strip().rpartition("@")
    try:
        value = f"{local}{at}{domain.encode('idna').decode('ascii')}".lower()
        validate_email(value)
    except (UnicodeError, ValidationError) as error:
        raise ValueError("This is not an e-mail address.") from error
    if len(value) > MAX_CHARS:
        raise ValueError("An e-mail address has at most 254 characters.")
    if not value.isascii():
        raise ValueError("The part before @ of an e-mail address has only Latin letters, digits and signs.")
    return value
