"""Counters of limits, from `billing/sql/0004_limits.sql`."""

from pathlib import Path

import django.contrib.postgres.fields
from django.db import migrations, models

SQL = Path(__file__).resolve().parent.parent / "sql" / "0004_limits.sql"

UNDO = """
DROP FUNCTION ledger_count(jsonb, bigint, timestamptz), ledger_limit(uuid, bigint, jsonb, timestamptz),
              ledger_windows(jsonb, timestamptz), ledger_lock_counters(jsonb, timestamptz),
              ledger_lock_counted(uuid[]),
              ledger_uncount(uuid[]);
"""


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0008_daily_root'),
    ]

    operations = [
        migrations.AddField(
            model_name='hold',
            name='counter_ids',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), db_default=[], size=None, verbose_name='счётчики лимитов'),
        ),
        migrations.CreateModel(
            name='LimitCounter',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('subject', models.CharField(max_length=80, verbose_name='чей')),
                ('window', models.CharField(choices=[('hour', 'час'), ('day', 'день'), ('month', 'месяц')], max_length=5, verbose_name='окно')),
                ('window_start', models.DateTimeField(verbose_name='начало окна')),
                ('spent_micro_rub', models.BigIntegerField(default=0, verbose_name='потрачено, мк₽')),
                ('reserved_micro_rub', models.BigIntegerField(default=0, verbose_name='в резерве, мк₽')),
                ('refused_limit_micro_rub', models.BigIntegerField(null=True, verbose_name='отказал при лимите, мк₽')),
            ],
            options={
                'verbose_name': 'счётчик лимита',
                'verbose_name_plural': 'счётчики лимитов',
                'constraints': [models.UniqueConstraint(fields=('subject', 'window', 'window_start'), name='billing_limitcounter_one_a_window')],
            },
        ),
        migrations.RunSQL(SQL.read_text(encoding="utf-8"), UNDO),
    ]
