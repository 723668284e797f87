"""The VAT within a sum, by the rate of its day."""

from datetime import UTC, date, datetime

import pytest
from django.db import IntegrityError, transaction
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from billing import vat
from billing.models import VatRate

RUB = 1_000_000
NOON = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("paid", "part"), [(122 * RUB, 22 * RUB), (100 * RUB, 18_032_786), (6, 1), (5, 0), (0, 0)]
)
def test_vat_is_a_part_of_the_sum_rounded_down(paid: int, part: int) -> None:
    assert vat.vat_included(paid, NOON) == part


@hypothesis_settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**15))
def test_net_and_vat_make_the_sum(paid: int) -> None:
    part = vat.vat_included(paid, NOON)

    assert 0 <= paid * 22 - part * 122 < 122


def test_rate_of_the_day_counts_from_moscows_midnight() -> None:
    with transaction.atomic():
        VatRate.objects.create(valid_from=date(2027, 1, 1), rate_bp=500)
        last, first = (
            vat.vat_included(105 * 122 * RUB, datetime(2026, 12, 31, hour, minute, tzinfo=UTC))
            for hour, minute in ((20, 59), (21, 0))
        )
        transaction.set_rollback(True)

    assert (last, first) == (105 * 22 * RUB, 5 * 122 * RUB)


def test_day_before_every_row_has_no_rate() -> None:
    with pytest.raises(VatRate.DoesNotExist):
        vat.vat_included(RUB, datetime(2025, 12, 31, 20, 59, tzinfo=UTC))


@pytest.mark.parametrize("rate_bp", [-1, 10_001])
def test_rate_outside_the_whole_is_refused(rate_bp: int) -> None:
    with pytest.raises(IntegrityError, match="billing_vatrate_within_the_whole"):
        VatRate.objects.create(valid_from=date(2030, 1, 1), rate_bp=rate_bp)


def test_seeded_rate_is_that_of_the_law() -> None:
    assert list(VatRate.objects.values_list("valid_from", "rate_bp")) == [(date(2026, 1, 1), 2_200)]
