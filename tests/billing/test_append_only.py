"""History cannot be rewritten, whoever asks, and the application cannot move money past the functions."""

import orjson
import pytest
from django.db import DatabaseError, IntegrityError, ProgrammingError, connection
from django.db.backends.base.base import BaseDatabaseWrapper

from billing import models
from billing.models import CreditLot, Hold, LedgerEntry, UsageEvent, Wallet
from billing.verification import APPEND_ONLY_TABLES
from plyrum.ids import uuid7
from tests.billing import books

VERBS = ("UPDATE {table} SET created_at = now()", "DELETE FROM {table}", "TRUNCATE {table}")
CHANGES = {"billing_limitcounter": "window_start = now()", "billing_holdmark": "place = 1"}
TABLES_OF_FUNCTIONS = models.FUNCTION_ONLY_TABLES
INSERTS = {
    "billing_wallet": "INSERT INTO billing_wallet (customer_id, balance_micro_rub, seq, head_hash,"
    " created_at) VALUES (gen_random_uuid(), 1000000, 0, '', now())",
    "billing_lot": "INSERT INTO billing_lot (customer_id, kind, spend_class, amount_micro_rub,"
    " source_entry_id, created_at) VALUES (gen_random_uuid(), 'bonus', 2, 1, gen_random_uuid(), now())",
    "billing_hold": "INSERT INTO billing_hold (id, customer_id, amount_micro_rub, captured_micro_rub, status,"
    " lot_ids, lot_amounts, expires_at, created_at)"
    " VALUES (gen_random_uuid(), gen_random_uuid(), 0, 0, 'open', '{}', '{}', now(), now())",
    "billing_holdmark": "INSERT INTO billing_holdmark (first_id) VALUES (gen_random_uuid())"
    " ON CONFLICT (place) DO UPDATE SET first_id = excluded.first_id",
    "billing_ledgerentry": "INSERT INTO billing_ledgerentry (id, type, debit_account, credit_account,"
    " amount_micro_rub, key, source_type, source_id, lot_ids, lot_amounts, effective_at, created_at)"
    " VALUES (gen_random_uuid(), 'topup', 'promo', 'revenue', 1, gen_random_uuid(), 'x', 'x', '{}', '{}',"
    " now(), now())",
    "billing_limitcounter": 'INSERT INTO billing_limitcounter (subject, "window", window_start,'
    " spent_micro_rub, reserved_micro_rub) VALUES (gen_random_uuid(), 'day', now(), 0, 0)",
}


@pytest.fixture(autouse=True)
def _rows() -> None:
    books.spend(books.funded(10), 5)  # an entry of each side, a lot, a hold, a usage row, a price


@pytest.mark.parametrize("table", APPEND_ONLY_TABLES)
@pytest.mark.parametrize("statement", VERBS)
def test_application_role_may_not_change_history(table: str, statement: str) -> None:
    with pytest.raises(ProgrammingError, match="permission denied"), connection.cursor() as cursor:
        cursor.execute(statement.format(table=table))


@pytest.mark.parametrize("table", APPEND_ONLY_TABLES)
@pytest.mark.parametrize("statement", VERBS)
@pytest.mark.parametrize("mode", ["origin", "replica"])
def test_owner_may_not_change_history_either(
    owner: BaseDatabaseWrapper, table: str, statement: str, mode: str
) -> None:
    with owner.cursor() as cursor:
        cursor.execute(f"SET session_replication_role = {mode}")
        if table == "billing_fxrate":
            cursor.execute(
                "INSERT INTO billing_fxrate (currency, micro_rub, spread_bp, source, rate_date, created_at)"
                " VALUES ('XXX', 1, 0, %s, '2026-01-01', now())",
                [str(uuid7())],
            )
        if table == "billing_dailyroot":
            cursor.execute(
                "INSERT INTO billing_dailyroot (day, root, wallets, entries, created_at)"
                " SELECT '2001-01-01', root, wallets, entries, now() FROM ledger_root('2001-01-01')"
                " ON CONFLICT DO NOTHING"
            )

        with pytest.raises(IntegrityError, match="append-only"):
            cursor.execute(statement.format(table=table))


def test_control_owner_changes_a_table_without_the_guard(owner: BaseDatabaseWrapper) -> None:
    with owner.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE unguarded (LIKE billing_ledgerentry)")
        cursor.execute("INSERT INTO unguarded SELECT * FROM billing_ledgerentry LIMIT 1")

        for statement in VERBS[:2]:
            cursor.execute(statement.format(table="unguarded"))
            assert cursor.rowcount == 1


@pytest.mark.parametrize("table", TABLES_OF_FUNCTIONS)
@pytest.mark.parametrize("statement", VERBS)
def test_application_role_may_not_change_money_directly(table: str, statement: str) -> None:
    statement = statement.replace("created_at = now()", CHANGES.get(table, "created_at = now()"))

    with pytest.raises(ProgrammingError, match="permission denied"), connection.cursor() as cursor:
        cursor.execute(statement.format(table=table))


@pytest.mark.parametrize("table", TABLES_OF_FUNCTIONS)
def test_application_role_may_not_add_money_directly(table: str) -> None:
    with pytest.raises(ProgrammingError, match="permission denied"), connection.cursor() as cursor:
        cursor.execute(INSERTS[table])


@pytest.mark.parametrize("table", TABLES_OF_FUNCTIONS)
def test_control_the_same_rows_are_accepted_from_the_owner(owner: BaseDatabaseWrapper, table: str) -> None:
    """The refusals above are about rights, not about the rows."""
    with owner.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(INSERTS[table])
        assert cursor.rowcount == 1
        cursor.execute("ROLLBACK")


@pytest.mark.parametrize("model", [Wallet, CreditLot, Hold, LedgerEntry])
def test_models_cannot_write_money(model: type[Wallet | CreditLot | Hold | LedgerEntry]) -> None:
    row = model._default_manager.all()[0]

    with pytest.raises(DatabaseError, match=r"permission denied|cannot update view"):
        row.save()
    with pytest.raises(DatabaseError, match=r"permission denied|cannot delete from view"):
        row.delete()


def test_models_cannot_change_usage() -> None:
    with pytest.raises(ProgrammingError, match="permission denied"):
        UsageEvent.objects.update(charged_micro_rub=0)


@pytest.mark.parametrize(
    "call",
    [
        "ledger_post_all(ARRAY (SELECT e FROM billing_ledgerentry e LIMIT 1), %(owners)s, '{}', '{}',"
        " '{}', now())",
        "ledger_lay((%(owners)s::uuid[])[1], NULL, NULL)",
        "ledger_leave(%(owners)s)",
        "ledger_move_mark(now())",
        "ledger_hold_plain(%(holds)s::jsonb)",
        "ledger_uncount(ARRAY (SELECT h.id FROM billing_hold h LIMIT 1))",
        'ledger_count(\'[{"subject": "x", "window": "day", "limit": 9}]\', 1, now())',
    ],
)
def test_parts_of_functions_have_no_rights_of_their_own(call: str) -> None:
    customer = books.funded(10)
    holds = orjson.dumps([books.hold_step(customer, 1) for _ in range(2)]).decode()

    with pytest.raises(ProgrammingError, match="permission denied"), connection.cursor() as cursor:
        cursor.execute(f"SELECT {call}", {"holds": holds, "owners": [customer]})
