"""Two proofs find the same fault at the same moment: it is one row, and new to one of them only."""

import re

import pytest
from django.db import IntegrityError

from billing import reconciliation
from billing.verification import Finding
from billing.watch_models import ReconciliationFinding
from plyrum import clock
from plyrum.ids import uuid7
from tests.threads import at_once

CALLERS = 6


def store_at_once() -> tuple[str, list[int]]:
    """The object of the finding, and to how many callers it was new."""
    broken, now = str(uuid7()), clock.now()
    found = [Finding("T01", "", broken, "is broken")]
    counts = at_once(CALLERS, lambda: reconciliation.store(found, covered=[], now=now))
    return broken, [row["new"] for row in counts]


def test_same_finding_at_once_is_one_row() -> None:
    broken, new = store_at_once()

    assert sorted(new) == [0] * (CALLERS - 1) + [1]
    ReconciliationFinding.objects.get(object=broken).delete()


def test_without_the_way_out_of_the_conflict_somebody_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = re.sub(r"ON CONFLICT.*(?=RETURNING)", "", reconciliation.STORE, flags=re.DOTALL)
    assert bare != reconciliation.STORE
    monkeypatch.setattr(reconciliation, "STORE", bare)

    with pytest.raises(IntegrityError):
        store_at_once()

    ReconciliationFinding.objects.filter(check_id="T01").delete()
