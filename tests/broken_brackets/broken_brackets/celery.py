import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "broken_brackets.settings")

app = Celery("broken_brackets")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
