"""The journal and the acceptances cannot be rewritten, whoever asks."""

from collections.abc import Iterator

import pytest
from django.db import DatabaseError, IntegrityError, ProgrammingError, connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from auditlog import journal
from auditlog.actors import SYSTEM
from auditlog.models import AuditEvent
from legal.models import Acceptance
from plyrum.ids import uuid7
from tests import factories

TABLES = ("auditlog_auditevent", "legal_acceptance")
VERBS = ("UPDATE {table} SET ip = NULL", "DELETE FROM {table}", "TRUNCATE {table}")


@pytest.fixture
def _a_row() -> None:
    factories.customer()  # leaves an acceptance and journal entries


@pytest.fixture
def owner() -> Iterator[BaseDatabaseWrapper]:
    """A connection with the rights of the tables' owner, as a careless or hostile administrator has."""
    wrapper = connection.copy()
    wrapper.settings_dict["OPTIONS"].pop("assume_role")
    yield wrapper
    wrapper.close()


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("statement", VERBS)
@pytest.mark.usefixtures("_a_row")
def test_application_role_may_not_change_rows(table: str, statement: str) -> None:
    with pytest.raises(ProgrammingError, match="permission denied"), connection.cursor() as cursor:
        cursor.execute(statement.format(table=table))


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("statement", VERBS)
@pytest.mark.parametrize("mode", ["origin", "replica"])
@pytest.mark.usefixtures("_a_row")
def test_owner_may_not_change_rows_either(
    owner: BaseDatabaseWrapper, table: str, statement: str, mode: str
) -> None:
    with owner.cursor() as cursor:
        cursor.execute(f"SET session_replication_role = {mode}")

        with pytest.raises(IntegrityError, match="never changed"):
            cursor.execute(statement.format(table=table))


def test_control_an_unguarded_table_lets_its_owner_delete(owner: BaseDatabaseWrapper) -> None:
    """The attack of the test above works where the guard is missing."""
    with owner.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE unguarded AS SELECT 1 AS ip")

        cursor.execute("DELETE FROM unguarded")

        assert cursor.rowcount == 1


@pytest.mark.usefixtures("_a_row")
def test_models_cannot_change_rows() -> None:
    event = AuditEvent.objects.order_by("-seq")[0]
    event.action = "billing.thing.else"

    with pytest.raises(DatabaseError):
        event.save()
    with pytest.raises(DatabaseError):
        AuditEvent.objects.filter(pk=event.pk).update(subject="")
    with pytest.raises(DatabaseError):
        AuditEvent.objects.bulk_update([event], ["action"])
    with pytest.raises(DatabaseError):
        Acceptance.objects.all()[0].delete()


def test_application_role_may_add_and_read() -> None:
    subject = f"thing:{uuid7()}"

    with transaction.atomic():
        journal.record(actor=SYSTEM, action="billing.thing.done", subject=subject)

    assert AuditEvent.objects.filter(subject=subject).count() == 1
