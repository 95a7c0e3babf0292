from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = (("brackets", "0002_snippet_balanced_created"),)

    operations = (
        migrations.AddField(
            model_name="snippet",
            name="language",
            field=models.CharField(blank=True, db_default="", default="", max_length=40),
        ),
    )
