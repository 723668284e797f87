"""What must never reach production, each by its id, and the refusal to start."""

from collections.abc import Callable

import pytest
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from plyrum import checks

SOUND = {
    "IS_PRODUCTION": True,
    "DEBUG": False,
    "PLYRUM_SANDBOX_URL": "",
    "PLYRUM_DEV_SUPERACCOUNT_ENABLED": False,
    "YOOKASSA_API_BASE_URL": "https://api.yookassa.ru/v3",
    "PAYMENTS_PROVIDER": "yookassa",
    "ALLOWED_HOSTS": ["plyrum.example"],
    "PLYRUM_ALLOW_LOCAL_PROVIDER_BASE_URLS": False,
    "PAYMENTS_LIVE": True,
    "YOOKASSA_RETURN_URL": "https://plyrum.example/app/topup",
    "PLYRUM_FX_BASE_URL": "https://www.cbr.ru/scripts",
}
FAULTS: list[tuple[str, dict[str, object], str]] = [
    ("plyrum.E001", {"DEBUG": True}, "PLYRUM_DEBUG"),
    ("plyrum.E002", {"PLYRUM_SANDBOX_URL": "http://sandbox:8100"}, "PLYRUM_SANDBOX_URL"),
    ("plyrum.E003", {"PLYRUM_DEV_SUPERACCOUNT_ENABLED": True}, "PLYRUM_DEV_SUPERACCOUNT_ENABLED"),
    ("plyrum.E004", {"YOOKASSA_API_BASE_URL": "http://127.0.0.1:8100/yookassa/v3"}, "YOOKASSA_API_BASE_URL"),
    ("plyrum.E004", {"YOOKASSA_API_BASE_URL": "http://sandbox/yookassa/v3"}, "YOOKASSA_API_BASE_URL"),
    ("plyrum.E004", {"YOOKASSA_API_BASE_URL": "https://localhost/v3"}, "YOOKASSA_API_BASE_URL"),
    ("plyrum.E005", {"PAYMENTS_PROVIDER": "mock"}, "PAYMENTS_PROVIDER"),
    ("plyrum.E006", {"ALLOWED_HOSTS": []}, "PLYRUM_ALLOWED_HOSTS"),
    ("plyrum.E007", {"PLYRUM_ALLOW_LOCAL_PROVIDER_BASE_URLS": True}, "PLYRUM_ALLOW_LOCAL_PROVIDER_BASE_URLS"),
    ("plyrum.E008", {"YOOKASSA_RETURN_URL": "http://plyrum.example/app/topup"}, "YOOKASSA_RETURN_URL"),
    ("plyrum.E009", {"PLYRUM_FX_BASE_URL": "http://www.cbr.ru/scripts"}, "PLYRUM_FX_BASE_URL"),
]
Launch = Callable[..., list[str]]


@pytest.fixture
def launch(settings: Settings) -> Launch:
    """Sets sound production settings with changes, answers the ids of what is refused."""

    def ids(**changes: object) -> list[str]:
        for name, value in {**SOUND, **changes}.items():
            setattr(settings, name, value)
        return [str(fault.id) for fault in checks.production_is_not_development()]

    return ids


def test_sound_production_passes_and_starts(launch: Launch) -> None:
    assert launch() == []

    checks.refuse_to_start()


@pytest.mark.parametrize(("id_", "changes", "variable"), FAULTS)
def test_fault_has_its_id_and_names_its_variable(
    launch: Launch, id_: str, changes: dict[str, object], variable: str
) -> None:
    assert launch(**changes) == [id_]

    (fault,) = checks.production_is_not_development()
    assert variable in str(fault.hint)
    with pytest.raises(ImproperlyConfigured, match=variable):
        checks.refuse_to_start()


def test_all_faults_are_told_at_once(launch: Launch) -> None:
    changes: dict[str, object] = {}
    for _, change, _ in FAULTS:
        changes |= change

    assert launch(**changes) == sorted({id_ for id_, _, _ in FAULTS})


def test_payments_that_are_not_live_may_return_anywhere(launch: Launch) -> None:
    assert launch(PAYMENTS_LIVE=False, YOOKASSA_RETURN_URL="http://plyrum.example/app/topup") == []


def test_development_is_free(launch: Launch) -> None:
    assert launch(IS_PRODUCTION=False, DEBUG=True, PAYMENTS_PROVIDER="mock", ALLOWED_HOSTS=[]) == []

    checks.refuse_to_start()
