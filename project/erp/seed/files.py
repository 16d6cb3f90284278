"""A handful of attachments: real files in the media folder and their rows."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from project.erp.models import Attachment, Item, Partner
from project.erp.seed.people import partner_count
from project.erp.seed.plan import HISTORY, Plan, random_uuid

COLUMNS = (
    "id",
    "public_id",
    "content_type_id",
    "object_id",
    "file",
    "title",
    "media_type",
    "size",
    "sha256",
    "preview",
    "uploaded_by_id",
    "created_at",
)
FOLDER = PurePosixPath("attachments/demo")
_COUNT = 24


def rows(plan: Plan, using: str) -> list[tuple[Any, ...]]:
    """Write a few small files and return the rows that describe them."""
    types = ContentType.objects.db_manager(using)
    item, partner = (types.get_for_model(model).pk for model in (Item, Partner))
    return list(_rows(plan, ((item, plan.items), (partner, partner_count(plan)))))


def _rows(plan: Plan, subjects: tuple[tuple[int, int], ...]) -> Iterator[tuple[Any, ...]]:
    """Write the files and yield their rows; `subjects` are content types and their numbers of objects."""
    chance = plan.chance("attachments")
    for number in range(1, _COUNT + 1):
        content_type, count = subjects[number % 2]
        content = f"Datenblatt / lembar data № {number}\n{chance.getrandbits(256):064x}\n".encode()
        yield (
            number,
            random_uuid(chance),
            content_type,
            chance.randint(1, count),
            _store(f"datasheet-{plan.seed}-{number:02d}.txt", content),
            f"Data sheet № {number}: Übersicht",
            "text/plain",
            len(content),
            hashlib.sha256(content).hexdigest(),
            _png(chance.randbytes(3)) if number % 3 else None,
            chance.randint(1, plan.users),
            plan.since + chance.random() * HISTORY,
        )


def names(using: str) -> list[str]:
    """Return the names of the stored files that the seed made."""
    made = Attachment.objects.using(using).filter(file__startswith=f"{FOLDER}/")
    return list(made.values_list("file", flat=True))


def delete(stored: list[str]) -> None:
    """Delete these files from the media folder; those that are gone already are no error."""
    for name in stored:
        default_storage.delete(name)


def _store(name: str, content: bytes) -> str:
    path = str(FOLDER / name)
    # A file of an earlier demo with this name: Django would store the new one under another name.
    default_storage.delete(path)
    return default_storage.save(path, ContentFile(content))


def _png(colour: bytes) -> bytes:
    """Return an 8 by 8 picture of one colour."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    # Stored, not compressed: the same bytes with every version of zlib.
    pixels = zlib.compress((b"\0" + colour * 8) * 8, level=0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", pixels) + part(b"IEND", b"")
