"""Roll-ups of usage by day, and the indexes by time that they and date filters read."""

import django.contrib.postgres.indexes
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0012_indexes'),
    ]

    operations = [
        migrations.CreateModel(
            name='UsageDay',
            fields=[
                ('day', models.DateField(primary_key=True, serialize=False, verbose_name='день')),
                ('barrier', models.BigIntegerField(verbose_name='граница')),
                ('closed_at', models.DateTimeField(null=True, verbose_name='закрыт')),
            ],
            options={
                'verbose_name': 'день использования',
                'verbose_name_plural': 'дни использования',
            },
        ),
        migrations.CreateModel(
            name='UsageRollup',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('customer_id', models.UUIDField(verbose_name='клиент')),
                ('day', models.DateField(verbose_name='день')),
                ('model', models.CharField(max_length=100, verbose_name='модель')),
                ('api_key_id', models.UUIDField(null=True, verbose_name='ключ API')),
                ('kind', models.CharField(max_length=20, verbose_name='вид')),
                ('requests', models.BigIntegerField(verbose_name='строк')),
                ('input_tokens', models.BigIntegerField(verbose_name='токены запроса')),
                ('output_tokens', models.BigIntegerField(verbose_name='токены ответа')),
                ('cached_input_tokens', models.BigIntegerField(verbose_name='из кэша')),
                ('cache_write_tokens', models.BigIntegerField(verbose_name='в кэш')),
                ('reasoning_tokens', models.BigIntegerField(verbose_name='на размышление')),
                ('images', models.BigIntegerField(verbose_name='картинки')),
                ('cost_micro_rub', models.BigIntegerField(verbose_name='цена, мк₽')),
                ('charged_micro_rub', models.BigIntegerField(verbose_name='списано, мк₽')),
            ],
            options={
                'verbose_name': 'итог использования',
                'verbose_name_plural': 'итоги использования',
            },
        ),
        migrations.AddIndex(
            model_name='usageevent',
            index=models.Index(fields=['customer_id', 'created_at'], name='billing_usage_of_customer_time'),
        ),
        migrations.AddConstraint(
            model_name='usagerollup',
            constraint=models.UniqueConstraint(fields=('customer_id', 'day', 'model', 'api_key_id', 'kind'), name='billing_usagerollup_one_per_group', nulls_distinct=False),
        ),
    ]
