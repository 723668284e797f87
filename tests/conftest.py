"""What every test stands on: the real embedded servers and one migrated database that nobody cleans.

Tests commit like the product does and make their own people, so they need neither rollback nor flush;
money rows could not be flushed anyway. The books of everything the suite did are verified at the end.
"""

import os
import sys
import threading
import time
import tomllib
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import DataError, IntegrityError, connection
from django.utils import translation
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from pytest_django import DjangoDbBlocker

from billing import ledger, prices, tasks, verification
from billing.models import LedgerEntry
from plyrum import clock, embedded
from plyrum.management.commands.migrate import work_as_owner

# The same examples on every machine, however slow it is: a new one is found by a search, not by a release.
hypothesis_settings.register_profile(
    "tests", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("tests")

TESTS = Path(__file__).resolve().parent
COVERAGE = tomllib.loads((TESTS.parent / "pyproject.toml").read_text("utf-8"))["tool"]["coverage"]["run"]
# What counts as coverage: tests of its apps and of their races, but heavy ones. To trace costs half as much
# time again.
TRACED = {*COVERAGE["source"], "concurrency"}

HOUR_SECONDS = 3600
CALM_SECONDS = 30  # more than a test takes


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Side by side, begin with what takes long: no process is left alone with it at the end."""
    if hasattr(config, "workerinput"):
        items.sort(key=_is_heavy, reverse=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Trace only what counts. By hand: when pytest-cov pauses, in a worker a second tracer of it goes on."""
    counts = item.path.relative_to(TESTS).parts[0] in TRACED and not _is_heavy(item)
    is_coverage = item.config.pluginmanager.hasplugin("_cov")  # else a tracer is somebody's debugger
    if counts or not is_coverage:
        return (yield)
    here, threads = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(here)
        threading.settrace(threads)


def _is_heavy(item: pytest.Item) -> bool:
    return item.get_closest_marker("heavy") is not None


def pytest_runtest_setup() -> None:
    """Let no hour end in the middle of a test: days, months, years and the windows of limits end with one.

    What happens at those ends has tests of its own, with clocks that stand still.
    """
    rest = HOUR_SECONDS - time.time() % HOUR_SECONDS
    if rest < CALM_SECONDS:
        time.sleep(rest + 0.1)


@pytest.fixture(scope="session")
def django_db_setup(django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    embedded.start_if_needed()
    role = settings.DATABASES["default"]["OPTIONS"]["assume_role"]
    with django_db_blocker.unblock():
        work_as_owner(connection)
        plain = settings.DATABASES["default"]["NAME"]
        connection.settings_dict["TEST"]["NAME"] = f"test_plyrum_{os.getpid()}"  # runs side by side
        _drop_left_overs()
        connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
        call_command("load_catalogue", verbosity=0)
        _add_rate_of_today()
        connection.settings_dict["OPTIONS"]["assume_role"] = role
        connection.close()
        yield
        work_as_owner(connection)
        _do_what_is_due()
        # Pages that only read have usage rows made by hand; their customers have no ledger entries.
        moved = LedgerEntry.objects.exclude(customer_id=None).values_list("customer_id", flat=True).distinct()
        findings = verification.verify(wallets=[customer for customer in moved if customer]).findings
        findings += verification.verify(only=["V29"]).findings  # counters are shared: all wallets or none
        connection.creation.destroy_test_db(plain, verbosity=0)
        assert not findings, f"The suite left wrong books behind: {findings[:5]}"


def _do_what_is_due() -> None:
    """Tests leave holds whose time ends and debts that can be repaid by now; beat would have seen to both.

    What V14 and V36 say of a beat that does not come is tested by damages.
    """
    tasks.expire_holds()
    for customer in ledger.debtors():
        with suppress(IntegrityError, DataError):  # its books are broken: the proof tells
            ledger.collect(customer)


@pytest.fixture(scope="session", autouse=True)
def _database_for_all(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    with django_db_blocker.unblock():
        yield


def _add_rate_of_today() -> None:
    """The file's rate grows too old to sell by; the suite runs on any day."""
    prices.add_rate(currency="USD", micro_rub=95_000_000, source="tests", rate_date=clock.now().date())


@pytest.fixture(autouse=True)
def _usual_language() -> Iterator[None]:
    """A page leaves its language in the thread that made it; the next test must not meet it."""
    yield
    translation.deactivate()


def _drop_left_overs() -> None:
    """Databases of runs that were killed before they could drop their own."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database WHERE datname LIKE 'test\\_plyrum\\_%%'")
        for (name,) in cursor.fetchall():
            if not Path(f"/proc/{name.rpartition('_')[2]}").exists():
                cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
