"""Attachments in the admin, on their own and below what they belong to."""

# ruff: noqa: ARG002  Django calls these methods with its own signatures

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.contenttypes.admin import GenericTabularInline
from django.core.files.uploadedfile import UploadedFile
from django.template.defaultfilters import filesizeformat

from project.erp.admin.base import ModelAdmin
from project.erp.models import Attachment

if TYPE_CHECKING:
    from django import forms
    from django.http import HttpRequest


def complete(attachment: Attachment, upload: object) -> None:
    """Fill in size, checksum and media type of a freshly uploaded file."""
    if not isinstance(upload, UploadedFile):
        return
    digest = hashlib.sha256()
    for chunk in upload.chunks():
        digest.update(chunk)
    upload.seek(0)
    attachment.size = upload.size or 0
    attachment.sha256 = digest.hexdigest()
    attachment.media_type = upload.content_type or "application/octet-stream"


class AttachmentInline(GenericTabularInline):
    """The files that belong to the document above."""

    model = Attachment
    ct_field = "content_type"
    ct_fk_field = "object_id"
    extra = 0
    fields = ["title", "file", "media_type", "size"]
    readonly_fields = ["media_type", "size"]


class WithAttachments(ModelAdmin[Any]):
    """The admin of a model with attachments: completes what was uploaded below it."""

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:  # noqa: FBT001  Django's signature
        """Complete new attachments before they are saved."""
        for inline_form in formset.forms:
            if isinstance(inline_form.instance, Attachment):
                complete(inline_form.instance, inline_form.cleaned_data.get("file"))
                inline_form.instance.uploaded_by = inline_form.instance.uploaded_by or request.user  # type: ignore[assignment]  # staff are never anonymous
        super().save_formset(request, form, formset, change)


@admin.register(Attachment)
class AttachmentAdmin(ModelAdmin[Attachment]):
    """All files; new ones are added where they belong."""

    list_display = ["title", "content_type", "object_id", "media_type", "readable_size", "uploaded_by", "created_at"]
    list_filter = ["media_type", "content_type", "created_at"]
    list_select_related = ["content_type", "uploaded_by"]
    search_fields = ["title", "file", "sha256"]
    date_hierarchy = "created_at"
    fields = [
        "title",
        "file",
        "content_type",
        "object_id",
        "media_type",
        "size",
        "sha256",
        "public_id",
        "uploaded_by",
        "created_at",
    ]
    readonly_fields = [
        "content_type",
        "object_id",
        "media_type",
        "size",
        "sha256",
        "public_id",
        "uploaded_by",
        "created_at",
    ]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse: an attachment without a subject means nothing."""
        return False

    def save_model(self, request: HttpRequest, obj: Attachment, form: forms.ModelForm[Any], change: bool) -> None:  # noqa: FBT001  Django's signature
        """Save the attachment, with the figures of a file that was exchanged."""
        complete(obj, form.cleaned_data.get("file"))
        super().save_model(request, obj, form, change)

    @admin.display(description="size", ordering="size")
    def readable_size(self, attachment: Attachment) -> str:
        """Return the size as people read it."""
        return filesizeformat(attachment.size)
