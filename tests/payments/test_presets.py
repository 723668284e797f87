"""The sums on offer: within the limits, with an honest estimate or none."""

from pytest_django import Settings

from payments import presets


def test_the_estimate_has_two_digits_and_never_promises_more() -> None:
    cost = 1_234_567  # micro-RUB for an ordinary answer

    assert presets._note(3_000, cost) == "≈ 2\u00a0400 обычных ответов"
    assert presets._note(100, cost) == "≈ 80 обычных ответов"


def test_without_a_catalogue_or_with_dear_answers_there_is_no_estimate() -> None:
    assert presets._note(500, None) == ""
    assert presets._note(100, 11_000_000) == ""


def test_only_sums_that_can_be_paid_are_offered(settings: Settings) -> None:
    settings.PAYMENTS_MIN_TOPUP_RUB, settings.PAYMENTS_MAX_TOPUP_RUB = 500, 1_000

    assert [row["value"] for row in presets.presets()] == [500, 1_000]
