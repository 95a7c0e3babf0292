from django.db import models

from .balance import is_balanced


class Snippet(models.Model):
    text = models.TextField()
    balanced = models.BooleanField(default=False)
    # The database holds the default too: the release before this one inserts without knowing the column.
    language = models.CharField(max_length=40, blank=True, default="", db_default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-created_at",)
        indexes = (models.Index(fields=["balanced", "created_at"], name="snippet_balanced_created"),)

    def __str__(self):
        return self.text[:40]

    def save(self, *args, **kwargs):
        self.balanced = is_balanced(self.text)
        super().save(*args, **kwargs)
