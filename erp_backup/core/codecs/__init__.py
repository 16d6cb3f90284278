"""Codecs: how the bytes of an archive are compressed and encrypted, and what is measured as they pass by.

A new codec is one file with one class, and its name in ``CODECS``.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from erp_backup.core.codecs.age import Age, parse_recipient, read_identities
from erp_backup.core.codecs.base import Codec, closing_source, decode_with, encode_with, limited
from erp_backup.core.codecs.gzip import Gzip
from erp_backup.core.codecs.meter import Meter
from erp_backup.core.codecs.zstd import Zstd

if TYPE_CHECKING:
    from collections.abc import Mapping

CODECS: Mapping[str, type[Codec]] = MappingProxyType({codec.name: codec for codec in (Zstd, Gzip, Age)})

__all__ = [
    "CODECS",
    "Age",
    "Codec",
    "Gzip",
    "Meter",
    "Zstd",
    "closing_source",
    "decode_with",
    "encode_with",
    "limited",
    "parse_recipient",
    "read_identities",
]
