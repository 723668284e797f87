"""Findings of the checks of the books, and customers' alerts about their balance."""

import plyrum.ids
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0013_usage_rollups'),
    ]

    operations = [
        migrations.CreateModel(
            name='BalanceAlert',
            fields=[
                ('customer_id', models.UUIDField(primary_key=True, serialize=False, verbose_name='клиент')),
                ('threshold_micro_rub', models.BigIntegerField(null=True, verbose_name='порог, мк₽')),
                ('is_low', models.BooleanField(default=False, verbose_name='предупреждён')),
                ('number', models.IntegerField(default=0, verbose_name='писем')),
                ('created_at', models.DateTimeField(verbose_name='создано')),
            ],
            options={
                'verbose_name': 'предупреждение об остатке',
                'verbose_name_plural': 'предупреждения об остатке',
                'constraints': [models.CheckConstraint(condition=models.Q(('threshold_micro_rub__gt', 0)), name='billing_balancealert_above_zero')],
            },
        ),
        migrations.CreateModel(
            name='ReconciliationFinding',
            fields=[
                ('id', models.UUIDField(default=plyrum.ids.uuid7, primary_key=True, serialize=False, verbose_name='номер')),
                ('check_id', models.CharField(max_length=20, verbose_name='проверка')),
                ('object', models.TextField(verbose_name='объект')),
                ('detail', models.TextField(verbose_name='что не так')),
                ('first_seen_at', models.DateTimeField(verbose_name='впервые')),
                ('last_seen_at', models.DateTimeField(verbose_name='последний раз')),
                ('state', models.CharField(choices=[('open', 'открыта'), ('explained', 'объяснена'), ('closed', 'закрыта')], default='open', max_length=10, verbose_name='состояние')),
                ('owner_id', models.UUIDField(null=True, verbose_name='кто разбирает')),
                ('reason', models.CharField(blank=True, default='', max_length=300, verbose_name='объяснение')),
                ('decided_by_id', models.UUIDField(null=True, verbose_name='кто решил')),
                ('decided_at', models.DateTimeField(null=True, verbose_name='решено')),
            ],
            options={
                'verbose_name': 'находка сверки',
                'verbose_name_plural': 'находки сверки',
                'indexes': [models.Index(fields=['state', '-first_seen_at'], name='billing_finding_by_state')],
                'constraints': [models.UniqueConstraint(fields=('check_id', 'object'), name='billing_reconciliationfinding_one_per_object')],
            },
        ),
    ]
