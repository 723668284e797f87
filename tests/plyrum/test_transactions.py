"""Functions that move money demand their caller's transaction."""

import pytest
from django.db import transaction

from plyrum.transactions import require_transaction


def test_without_a_transaction_it_raises() -> None:
    with pytest.raises(RuntimeError, match="inside the caller's transaction"):
        require_transaction()


def test_within_one_it_is_silent() -> None:
    with transaction.atomic(), transaction.atomic():
        require_transaction()
