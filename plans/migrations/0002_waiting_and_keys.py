from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("plans", "0001_initial"),
    ]

    operations = [
        migrations.AddField(
            model_name='subscription',
            name='waits_until',
            field=models.DateTimeField(null=True, verbose_name='ждёт резерва до'),
        ),
        migrations.AddField(
            model_name='redemption',
            name='client_key',
            field=models.CharField(blank=True, default='', max_length=255, verbose_name='ключ повтора'),
        ),
        migrations.AddConstraint(
            model_name='redemption',
            constraint=models.UniqueConstraint(condition=models.Q(('client_key', ''), _negated=True), fields=('customer_id', 'client_key'), name='plans_redemption_one_per_client_key'),
        ),
    ]
