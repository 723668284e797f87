"""The functions that open, settle and archive runs, from `orchestration/sql/0001_runs.sql`."""

from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0001_runs.sql"

UNDO = """
DROP FUNCTION run_open(jsonb), run_settle(jsonb, text[]), run_archive(jsonb, text[]),
              run_open_one(uuid, uuid, text, text, text, text, text, text, text, jsonb, bigint, uuid, int, bigint, int, boolean, jsonb),
              run_settle_one(uuid, uuid, int, text, text, text, text, text, bigint, bigint, boolean, jsonb, uuid, bigint, text,
                             jsonb, text),
              run_reserved(uuid, bigint, text, bigint, bigint, timestamptz), run_known(uuid, uuid, text, text),
              run_attempted(jsonb), run_unpaid(uuid, uuid, text, jsonb), run_ended(uuid, uuid, int), run_told(text, bigint);
DROP TYPE run_opened, run_settled;
"""


class Migration(migrations.Migration):
    dependencies = [("orchestration", "0001_initial"), ("billing", "0002_ledger")]
    operations = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), UNDO)]
