"""A note; each migration of the crash tests adds a column."""

from django.db import models


class Note(models.Model):
    """Some text."""

    text = models.TextField(default="")
