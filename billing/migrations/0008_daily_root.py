"""Daily roots over the heads of all wallets, their function and guards, from `billing/sql/0003_daily_root.sql`."""

from pathlib import Path

from django.db import migrations, models

SQL = Path(__file__).resolve().parent.parent / "sql" / "0003_daily_root.sql"


class Migration(migrations.Migration):
    dependencies = [("billing", "0007_operator_requests")]
    operations = [
        migrations.CreateModel(
            name="DailyRoot",
            fields=[
                ("day", models.DateField(primary_key=True, serialize=False, verbose_name="день")),
                ("root", models.BinaryField(verbose_name="корень")),
                ("wallets", models.BigIntegerField(verbose_name="кошельков")),
                ("entries", models.BigIntegerField(verbose_name="проводок")),
                ("created_at", models.DateTimeField(auto_now_add=True, verbose_name="создано")),
            ],
            options={"verbose_name": "корень дня", "verbose_name_plural": "корни дней"},
        ),
        migrations.RunSQL(SQL.read_text(encoding="utf-8"), "DROP FUNCTION ledger_root(date)"),
    ]
