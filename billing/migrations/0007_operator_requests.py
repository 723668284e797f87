import plyrum.ids
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0006_vat'),
    ]

    operations = [
        migrations.CreateModel(
            name='OperatorRequest',
            fields=[
                ('id', models.UUIDField(default=plyrum.ids.uuid7, primary_key=True, serialize=False, verbose_name='номер')),
                ('key', models.CharField(max_length=255, unique=True, verbose_name='ключ повтора')),
                ('kind', models.CharField(choices=[('adjustment', 'корректировка'), ('bonus', 'бонус'), ('reversal', 'отмена списания'), ('release', 'снятие резерва')], max_length=12, verbose_name='вид')),
                ('customer_id', models.UUIDField(verbose_name='клиент')),
                ('parameters', models.JSONField(verbose_name='параметры')),
                ('reason', models.CharField(max_length=300, verbose_name='причина')),
                ('ticket', models.CharField(blank=True, default='', max_length=100, verbose_name='обращение')),
                ('sha256', models.CharField(max_length=64, verbose_name='хеш')),
                ('maker_id', models.UUIDField(verbose_name='кто просил')),
                ('created_at', models.DateTimeField(verbose_name='создано')),
                ('state', models.CharField(choices=[('waiting', 'ждёт второго человека'), ('done', 'выполнен'), ('refused', 'отклонён'), ('expired', 'срок истёк')], default='waiting', max_length=8, verbose_name='состояние')),
                ('checker_id', models.UUIDField(null=True, verbose_name='кто решил')),
                ('refusal_reason', models.CharField(blank=True, default='', max_length=300, verbose_name='почему отклонён')),
                ('decided_at', models.DateTimeField(null=True, verbose_name='решено')),
                ('ledger_entry_id', models.UUIDField(null=True, verbose_name='проводка')),
            ],
            options={
                'verbose_name': 'запрос оператора',
                'verbose_name_plural': 'запросы операторов',
                'indexes': [models.Index(condition=models.Q(('state', 'waiting')), fields=['created_at'], name='billing_request_waiting'), models.Index(fields=['customer_id', '-id'], name='billing_request_of_customer')],
                'constraints': [models.CheckConstraint(condition=models.Q(('checker_id', None), models.Q(('checker_id', models.F('maker_id')), _negated=True), _connector='OR'), name='billing_operatorrequest_two_people'), models.CheckConstraint(condition=models.Q(models.Q(('decided_at', None), ('state', 'waiting')), models.Q(models.Q(('state', 'waiting'), _negated=True), ('decided_at__isnull', False)), _connector='OR'), name='billing_operatorrequest_decided_once')],
            },
        ),
    ]
