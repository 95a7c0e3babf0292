from django.db import models

from .balance import is_balanced


class Snippet(models.Model):
    text = models.TextField()
    balanced = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-created_at",)
        indexes = (models.Index(fields=["balanced", "created_at"], name="snippet_balanced_created"),)

    def __str__(self):
        return self.text[:40]

    def save(self, *args, **kwargs):
        self.balanced = is_balanced(self.text)
        super().save(*args, **kwargs)
