"""One page: is the site well?"""

import os

from django.http import HttpRequest, HttpResponse
from django.urls import path
from notes.models import Note


def health(request: HttpRequest) -> HttpResponse:
    """Answers when the models fit the database."""
    return HttpResponse(f"well, {Note.objects.count()}", headers={"X-Release": os.environ.get("BB_RELEASE", "")})


urlpatterns = [path("health/", health)]
