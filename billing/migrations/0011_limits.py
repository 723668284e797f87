import django.contrib.postgres.fields
import plyrum.ids
from django.db import migrations, models


# Tier, requests a minute, requests an hour: what a person can type, what a program of one customer needs.
RATES = (('free', 30, 600), ('paid', 300, 6_000), ('plan', 600, 12_000))


def make_rates(apps, schema_editor):
    rate = apps.get_model('billing', 'RequestRate')
    rate.objects.bulk_create(rate(tier=tier, per_minute=minute, per_hour=hour) for tier, minute, hour in RATES)


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0010_rollover_clearing'),
    ]

    operations = [
        migrations.CreateModel(
            name='CostDay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('day', models.DateField(verbose_name='день')),
                ('customer_id', models.UUIDField(verbose_name='клиент')),
                ('model', models.CharField(max_length=100, verbose_name='модель')),
                ('requests', models.IntegerField(verbose_name='запросов')),
                ('revenue_micro_rub', models.BigIntegerField(verbose_name='выручка, мк₽')),
                ('cost_micro_rub', models.BigIntegerField(verbose_name='себестоимость, мк₽')),
            ],
            options={
                'verbose_name': 'день себестоимости',
                'verbose_name_plural': 'себестоимость',
                'indexes': [models.Index(fields=['customer_id', 'day'], name='billing_costday_of_customer')],
                'constraints': [models.UniqueConstraint(fields=('day', 'customer_id', 'model'), name='billing_costday_one')],
            },
        ),
        migrations.CreateModel(
            name='CustomerRisk',
            fields=[
                ('customer_id', models.UUIDField(primary_key=True, serialize=False, verbose_name='клиент')),
                ('level', models.CharField(choices=[('low', 'низкий'), ('medium', 'средний'), ('high', 'высокий')], max_length=6, verbose_name='риск')),
                ('reasons', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(choices=[('loss', 'ответы стоят дороже, чем приносят'), ('thin_margin', 'почти без наценки'), ('dispute', 'опротестованный платёж'), ('refunds', 'много возвратов'), ('fast_spending', 'новый и быстро тратит')], max_length=16), size=None, verbose_name='почему')),
                ('requests', models.IntegerField(verbose_name='запросов')),
                ('revenue_micro_rub', models.BigIntegerField(verbose_name='выручка, мк₽')),
                ('cost_micro_rub', models.BigIntegerField(verbose_name='себестоимость, мк₽')),
                ('topped_up_micro_rub', models.BigIntegerField(verbose_name='пополнено, мк₽')),
                ('refunded_micro_rub', models.BigIntegerField(verbose_name='возвращено и опротестовано, мк₽')),
                ('computed_at', models.DateTimeField(verbose_name='посчитано')),
            ],
            options={
                'verbose_name': 'риск клиента',
                'verbose_name_plural': 'риск клиентов',
                'indexes': [models.Index(fields=['level', 'customer_id'], name='billing_risk_by_level')],
            },
        ),
        migrations.CreateModel(
            name='LimitLift',
            fields=[
                ('id', models.UUIDField(default=plyrum.ids.uuid7, primary_key=True, serialize=False, verbose_name='номер')),
                ('subject', models.CharField(max_length=60, verbose_name='кому')),
                ('window', models.CharField(choices=[('request', 'запрос'), ('hour', 'час'), ('day', 'день'), ('month', 'месяц')], max_length=8, verbose_name='окно')),
                ('ends_at', models.DateTimeField(verbose_name='до')),
                ('author_id', models.UUIDField(verbose_name='автор')),
                ('reason', models.CharField(max_length=300, verbose_name='причина')),
                ('created_at', models.DateTimeField(verbose_name='создано')),
            ],
            options={
                'verbose_name': 'снятый лимит',
                'verbose_name_plural': 'снятые лимиты',
                'constraints': [models.UniqueConstraint(fields=('subject', 'window', 'ends_at'), name='billing_limitlift_one_a_window')],
            },
        ),
        migrations.CreateModel(
            name='RequestRate',
            fields=[
                ('tier', models.CharField(choices=[('free', 'без пополнений'), ('paid', 'с пополнением'), ('plan', 'с тарифом')], max_length=8, primary_key=True, serialize=False, verbose_name='кто')),
                ('per_minute', models.IntegerField(verbose_name='в минуту')),
                ('per_hour', models.IntegerField(verbose_name='в час')),
            ],
            options={
                'verbose_name': 'частота запросов',
                'verbose_name_plural': 'частота запросов',
                'constraints': [models.CheckConstraint(condition=models.Q(('per_hour__gte', models.F('per_minute')), ('per_minute__gt', 0)), name='billing_requestrate_above_zero')],
            },
        ),
        migrations.CreateModel(
            name='SpendingBlock',
            fields=[
                ('id', models.UUIDField(default=plyrum.ids.uuid7, primary_key=True, serialize=False, verbose_name='номер')),
                ('customer_id', models.UUIDField(verbose_name='клиент')),
                ('author_id', models.UUIDField(verbose_name='кто закрыл')),
                ('reason', models.CharField(max_length=300, verbose_name='причина')),
                ('created_at', models.DateTimeField(verbose_name='закрыто')),
                ('lifted_by_id', models.UUIDField(null=True, verbose_name='кто открыл')),
                ('lift_reason', models.CharField(blank=True, max_length=300, verbose_name='почему открыл')),
                ('lifted_at', models.DateTimeField(null=True, verbose_name='открыто')),
            ],
            options={
                'verbose_name': 'запрет трат',
                'verbose_name_plural': 'запреты трат',
                'constraints': [models.UniqueConstraint(fields=('customer_id', 'lifted_at'), name='billing_spendingblock_one_open', nulls_distinct=False)],
            },
        ),
        migrations.CreateModel(
            name='SpendLimit',
            fields=[
                ('id', models.UUIDField(default=plyrum.ids.uuid7, primary_key=True, serialize=False, verbose_name='номер')),
                ('subject', models.CharField(max_length=60, verbose_name='кому')),
                ('window', models.CharField(choices=[('request', 'запрос'), ('hour', 'час'), ('day', 'день'), ('month', 'месяц')], max_length=8, verbose_name='окно')),
                ('limit_micro_rub', models.BigIntegerField(verbose_name='лимит, мк₽')),
                ('spent_before_micro_rub', models.BigIntegerField(default=0, verbose_name='потрачено до него, мк₽')),
                ('set_by', models.CharField(choices=[('customer', 'клиент'), ('operator', 'оператор')], max_length=8, verbose_name='кто поставил')),
                ('author_id', models.UUIDField(verbose_name='автор')),
                ('reason', models.CharField(blank=True, max_length=300, verbose_name='причина')),
                ('created_at', models.DateTimeField(verbose_name='поставлен')),
            ],
            options={
                'verbose_name': 'лимит трат',
                'verbose_name_plural': 'лимиты трат',
                'constraints': [models.UniqueConstraint(fields=('subject', 'window', 'set_by'), name='billing_spendlimit_one_of_each'), models.CheckConstraint(condition=models.Q(('limit_micro_rub__gte', 0)), name='billing_spendlimit_not_negative'), models.CheckConstraint(condition=models.Q(('set_by', 'customer'), models.Q(('reason', ''), _negated=True), _connector='OR'), name='billing_spendlimit_operators_say_why')],
            },
        ),
        migrations.RunPython(make_rates, migrations.RunPython.noop),
    ]
