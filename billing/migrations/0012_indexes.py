
import django.contrib.postgres.indexes
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0011_limits'),
    ]

    operations = [
        migrations.AddIndex(
            model_name='usageevent',
            index=django.contrib.postgres.indexes.BrinIndex(autosummarize=True, fields=['created_at'], name='billing_usage_by_time'),
        ),
    ]
