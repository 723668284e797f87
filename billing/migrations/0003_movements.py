"""Movements beside the charges for answers, from `billing/sql/0002_movements.sql`."""

from pathlib import Path

from django.db import migrations, models

SQL = Path(__file__).resolve().parent.parent / "sql" / "0002_movements.sql"

UNDO = """
DROP FUNCTION ledger_credit(jsonb), ledger_debit(jsonb), ledger_debit_plain(jsonb), ledger_reverse(jsonb), ledger_book(jsonb),
              ledger_debit_one(uuid, uuid, bigint, text, text, text, text, text, timestamptz, boolean, bigint, text),
              ledger_post_all(billing_ledgerentry[], uuid[], bigint[], bigint[], bigint[], timestamptz),
              ledger_post(uuid, uuid, text, text, text, bigint, text, text, text, uuid, bigint[], bigint[],
                          timestamptz, timestamptz, bigint[], bigint[]);
DROP TYPE ledger_debited;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0002_ledger'),
    ]

    operations = [
        migrations.RunSQL(SQL.read_text(encoding="utf-8"), UNDO),
        migrations.AlterField(
            model_name='ledgerentry',
            name='credit_account',
            field=models.CharField(choices=[('wallet', 'кошелёк'), ('provider_clearing', 'деньги у платёжного сервиса'), ('revenue', 'выручка'), ('promo', 'расходы на бонусы'), ('breakage', 'сгоревшие средства'), ('adjustments', 'корректировки'), ('plan_revenue', 'выручка тарифов'), ('provider_fee', 'комиссии платёжного сервиса'), ('bank', 'расчётный счёт')], max_length=20, verbose_name='кредит'),
        ),
        migrations.AlterField(
            model_name='ledgerentry',
            name='debit_account',
            field=models.CharField(choices=[('wallet', 'кошелёк'), ('provider_clearing', 'деньги у платёжного сервиса'), ('revenue', 'выручка'), ('promo', 'расходы на бонусы'), ('breakage', 'сгоревшие средства'), ('adjustments', 'корректировки'), ('plan_revenue', 'выручка тарифов'), ('provider_fee', 'комиссии платёжного сервиса'), ('bank', 'расчётный счёт')], max_length=20, verbose_name='дебет'),
        ),
        migrations.AlterField(
            model_name='ledgerentry',
            name='type',
            field=models.CharField(choices=[('topup', 'пополнение'), ('usage_debit', 'списание за ответ'), ('refund', 'возврат'), ('admin_adjustment', 'корректировка'), ('bonus', 'бонус'), ('plan_grant', 'начисление по тарифу'), ('plan_purchase', 'покупка тарифа'), ('rollover', 'перенос остатка'), ('expiry', 'сгорание'), ('chargeback', 'опротестование'), ('reversal', 'отмена списания'), ('provider_fee', 'комиссия платёжного сервиса'), ('payout', 'выплата платёжного сервиса')], max_length=20, verbose_name='вид'),
        ),
    ]
