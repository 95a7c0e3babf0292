import os
from importlib import metadata

from django.db import connection
from django.http import JsonResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from .models import Snippet

# Read once, at import: a process answers for the release it was started from.
RELEASE = os.environ.get("BB_RELEASE", "")
REVISION = os.environ.get("BB_REVISION", "")
DEPENDENCY = metadata.version("sqlparse")


@require_safe
def index(request):
    """The front page: how many snippets there are, and the newest of them."""
    context = {
        "total": Snippet.objects.count(),
        "broken": Snippet.objects.filter(balanced=False).count(),
        "snippets": Snippet.objects.all()[:10],
    }
    return render(request, "brackets/index.html", context)


@require_safe
@never_cache
def health(request):
    """Answers only when the database does and the models fit it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.fetchone()
    Snippet.objects.count()
    return JsonResponse(
        {"release": RELEASE, "dependency": DEPENDENCY, "revision": REVISION},
        headers={"X-Release": RELEASE},
    )
