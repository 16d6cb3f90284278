"""Files that belong to a document, an item or a partner."""

# ruff: noqa: D106  a Meta says nothing beyond its options

from __future__ import annotations

import uuid

from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import models

from project.erp.models import fields


class Attachment(models.Model):
    """A file in the media folder, with its checksum and a small preview kept in the database."""

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    content_type = models.ForeignKey(ContentType, on_delete=models.PROTECT, related_name="+")
    object_id = models.PositiveBigIntegerField()
    subject = GenericForeignKey("content_type", "object_id")
    file = models.FileField(upload_to="attachments/%Y/%m/")
    title = models.CharField(max_length=200)
    media_type = models.CharField(max_length=100, default="application/octet-stream")
    size = models.PositiveBigIntegerField(default=0, db_default=0, editable=False)
    sha256 = models.CharField(max_length=64, default="", db_default="", editable=False)
    preview = models.BinaryField(null=True, blank=True)
    uploaded_by = models.ForeignKey(
        "erp.User",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        editable=False,
        related_name="attachments",
    )
    created_at = fields.created_at()

    class Meta:
        db_table = "attachments"
        ordering = ["-created_at", "-id"]
        indexes = [models.Index(fields=["content_type", "object_id"], name="attachments_subject")]

    def __str__(self) -> str:
        return self.title
