from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("payments", "0002_invoices"),
    ]

    operations = [
        migrations.AddField(
            model_name='bankline',
            name='ordinal',
            field=models.PositiveSmallIntegerField(default=1, verbose_name='место среди одинаковых'),
        ),
        migrations.RemoveConstraint(model_name='bankline', name='payments_bankline_each_document_once'),
        migrations.AddConstraint(
            model_name='bankline',
            constraint=models.UniqueConstraint(fields=('document_date', 'number', 'payer_account', 'amount_micro_rub', 'ordinal'), name='payments_bankline_each_document_once'),
        ),
    ]
