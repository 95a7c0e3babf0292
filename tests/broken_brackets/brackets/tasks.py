from celery import shared_task

from .models import Snippet


@shared_task
def recheck(snippet_id):
    """Work out again whether a stored snippet is balanced."""
    Snippet.objects.get(pk=snippet_id).save()
