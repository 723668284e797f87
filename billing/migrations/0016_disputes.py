from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0015_suspense'),
    ]

    operations = [
        migrations.AlterField(
            model_name='operatorrequest',
            name='kind',
            field=models.CharField(choices=[('adjustment', 'корректировка'), ('bonus', 'бонус'), ('reversal', 'отмена списания'), ('release', 'снятие резерва'), ('chargeback', 'опротестование платежа')], max_length=12, verbose_name='вид'),
        ),
    ]
