"""The functions that open, settle and archive runs, from `orchestration/sql/0001_runs.sql`."""

from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0001_runs.sql"


class Migration(migrations.Migration):
    dependencies = [("orchestration", "0001_initial"), ("billing", "0002_ledger")]
    operations = [
        migrations.RunSQL(
            SQL.read_text(encoding="utf-8"),
            "DROP FUNCTION run_open(jsonb), run_settle(jsonb), run_archive(jsonb);",
        )
    ]
