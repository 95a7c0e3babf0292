from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("brackets", "0001_initial")]

    operations = [
        migrations.AddIndex(
            model_name="snippet",
            index=models.Index(fields=["balanced", "created_at"], name="snippet_balanced_created"),
        ),
    ]
