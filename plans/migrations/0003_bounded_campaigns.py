from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("plans", "0002_waiting_and_keys"),
    ]

    operations = [
        migrations.AddField(
            model_name='campaign',
            name='opened_by',
            field=models.UUIDField(null=True, verbose_name='кто начал'),
        ),
        migrations.AddField(
            model_name='campaign',
            name='opened_at',
            field=models.DateTimeField(null=True, verbose_name='начата'),
        ),
        migrations.RemoveConstraint(model_name='campaign', name='plans_campaign_limit_is_kept'),
        # A campaign without a limit ends with what it gave: another one is opened with a limit.
        migrations.RunSQL(
            "UPDATE plans_campaign SET uses_limit = uses WHERE uses_limit IS NULL", migrations.RunSQL.noop
        ),
        migrations.AlterField(
            model_name='campaign',
            name='uses_limit',
            field=models.PositiveIntegerField(verbose_name='всего раз'),
        ),
        migrations.AddConstraint(
            model_name='campaign',
            constraint=models.CheckConstraint(condition=models.Q(('uses__lte', models.F('uses_limit'))), name='plans_campaign_limit_is_kept'),
        ),
        migrations.AddIndex(
            model_name='campaign',
            index=models.Index(fields=['opened_by', 'opened_at'], name='plans_campaign_of_operator'),
        ),
    ]
