"""Lots, and the ledger's functions and guards, from `billing/sql/`."""

from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql"
FILES = ("0000_lots.sql", "0001_ledger.sql", "0005_open_holds.sql")

UNDO = """
DROP VIEW billing_openhold;
DROP TABLE billing_holdmark;
DROP FUNCTION ledger_hold(jsonb), ledger_settle(jsonb), ledger_use(jsonb, timestamptz), ledger_open_wallet(uuid),
              ledger_expire_holds(int, int), ledger_renew(uuid[], int), ledger_first_open(), ledger_move_mark(timestamptz),
              ledger_made_at(uuid), ledger_first_id(timestamptz), ledger_hash(bytea, uuid, bigint, uuid, text, text, bigint, bigint, text),
              ledger_spendable(uuid, timestamptz), ledger_clock(), ledger_lock(uuid[]), ledger_ordered(jsonb),
              ledger_hold_one(uuid, uuid, bigint, int, boolean, jsonb, timestamptz),
              ledger_settle_one(uuid, uuid, bigint, text, jsonb),
              ledger_hold_lots(uuid, uuid, bigint, int, boolean, jsonb, timestamptz),
              ledger_short(uuid, bigint, timestamptz), ledger_known_hold(uuid, uuid, bigint, boolean),
              ledger_settle_lots(uuid, uuid, bigint, text, bigint[], bigint[]),
              ledger_settle_free(uuid, uuid, bigint, jsonb),
              ledger_not_settled(uuid, uuid, bigint, timestamptz),
              ledger_hold_plain(jsonb), ledger_settle_plain(jsonb), ledger_used(bigint, bigint[]),
              ledger_shares(bigint[], bigint[], bigint[], timestamptz[], bigint, timestamptz),
              ledger_lay(uuid, bigint, bigint), ledger_leave(uuid[]),
              ledger_free(bigint[], bigint[], timestamptz[], timestamptz),
              ledger_free_each(bigint[], bigint[], timestamptz[], timestamptz),
              ledger_less(bigint[], bigint[], bigint[], bigint[]), ledger_less_each(bigint[], bigint[], bigint[], bigint[]);
DROP TYPE ledger_held, ledger_settled;
DROP VIEW billing_creditlot;
DROP TABLE billing_lot;
DROP AGGREGATE ledger_chain(bytea, bytea);
DROP FUNCTION ledger_link(bytea, bytea, bytea),
              ledger_line(uuid, bigint, uuid, text, text, bigint, bigint, text);
DROP FUNCTION ledger_refuse_change() CASCADE;
ALTER TABLE billing_wallet ALTER COLUMN balance_micro_rub TYPE bigint,
    ALTER COLUMN lot_remaining TYPE bigint[], ALTER COLUMN lot_reserved TYPE bigint[];
ALTER TABLE billing_hold ALTER COLUMN amount_micro_rub TYPE bigint, ALTER COLUMN captured_micro_rub TYPE bigint;
ALTER TABLE billing_ledgerentry ALTER COLUMN amount_micro_rub TYPE bigint,
    ALTER COLUMN balance_after_micro_rub TYPE bigint;
DROP DOMAIN micro_rub, micro_rub_moved, micro_rub_of_lots;
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0001_initial")]
    operations = [
        migrations.RunSQL("\n".join((SQL / name).read_text(encoding="utf-8") for name in FILES), UNDO)
    ]
