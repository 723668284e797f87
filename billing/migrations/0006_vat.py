"""The dated table of VAT: append-only like prices and rates, with the rate of 425-FZ of 28.11.2025."""

from django.db import migrations, models

GUARD = """
CREATE TRIGGER frozen BEFORE UPDATE OR DELETE ON billing_vatrate
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER not_truncated BEFORE TRUNCATE ON billing_vatrate
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();
ALTER TABLE billing_vatrate ENABLE ALWAYS TRIGGER frozen, ENABLE ALWAYS TRIGGER not_truncated;
"""
SEED = "INSERT INTO billing_vatrate (valid_from, rate_bp, created_at) VALUES ('2026-01-01', 2200, now())"


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0005_pricing'),
    ]

    operations = [
        migrations.CreateModel(
            name='VatRate',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('valid_from', models.DateField(unique=True, verbose_name='действует с')),
                ('rate_bp', models.IntegerField(verbose_name='ставка, б. п.')),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='создано')),
            ],
            options={
                'verbose_name': 'ставка НДС',
                'verbose_name_plural': 'ставки НДС',
                'constraints': [models.CheckConstraint(condition=models.Q(('rate_bp__gte', 0), ('rate_bp__lte', 10000)), name='billing_vatrate_within_the_whole')],
            },
        ),
        # Undone with the table.
        migrations.RunSQL(GUARD, migrations.RunSQL.noop),
        migrations.RunSQL(SEED, migrations.RunSQL.noop),
    ]
