"""Undoing what an archive was packed with, layer by layer, until there is something a database's tool would know."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from erp_backup.core.codecs import Codec, closing_source, decode_with
from erp_backup.core.codecs.age import Age
from erp_backup.core.errors import RefusedError
from erp_backup.core.workspace import Folder
from erp_backup.services.environment import Environment
from erp_backup.services.importing.decrypting import decrypt_gpg
from erp_backup.services.importing.reading import capped
from erp_backup.services.importing.recognising import GPG, Kind, head_of, recognise
from erp_backup.services.importing.sources import FileSource, Source

_FACTOR = 100  # databases that compress better than this are not known
_LEAST = 64 * 1024 * 1024  # bytes that a small archive may become in any case
_ENCRYPTIONS = frozenset({Age.name, GPG.codec})


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """What is inside: its kind, what was undone (in the order it had been applied), and a way to read it again."""

    kind: Kind
    codecs: tuple[str, ...]
    chunks: Callable[[], Iterator[bytes]]


def size_limit(source: Source, wanted: int | None) -> int:
    """Return how many bytes may come out of ``source``: what was asked for, or a hundred times what is stored."""
    return wanted if wanted is not None else max(_LEAST, _FACTOR * source.size)


def unpack(environment: Environment, source: Source, folder: Folder, limit: int) -> Unpacked:
    """Return what is inside ``source``.

    No layer may become more than ``limit`` bytes. Raises RefusedError, CorruptError, KeyUnavailableError, and
    ProgramMissingError where gpg is needed and not there.
    """
    opened = source.chunks
    undone: list[str] = []
    decoders: list[Codec] = []
    while (kind := recognise(_head(opened, decoders, limit))).is_encoded:
        _require_sensible([*undone, kind.codec])
        undone.append(kind.codec)
        if kind is GPG:
            path = decrypt_gpg(environment.runner, _read(opened, decoders, limit), folder, limit)
            opened, decoders = _file(path), []
        else:
            decoders = [*environment.decoders((kind.codec,)), *decoders]
    return Unpacked(kind=kind, codecs=tuple(reversed(undone)), chunks=lambda: _read(opened, decoders, limit))


def _file(path: Path) -> Callable[[], Iterator[bytes]]:
    return FileSource(path=path).chunks


def _read(opened: Callable[[], Iterator[bytes]], decoders: list[Codec], limit: int) -> Iterator[bytes]:
    """Decode, each layer within the limit: a small file may hold a large one that holds a huge one."""
    chunks = opened()
    for codec in reversed(decoders):
        chunks = capped(decode_with([codec], chunks), limit)
    return chunks


def _head(opened: Callable[[], Iterator[bytes]], decoders: list[Codec], limit: int) -> bytes:
    with closing_source(_read(opened, decoders, limit)) as chunks:
        return head_of(chunks)


def _require_sensible(undone: list[str]) -> None:
    """One compression and one encryption are what backups are made with; more is a bomb, or a mistake."""
    encryptions = [name for name in undone if name in _ENCRYPTIONS]
    if len(encryptions) > 1 or len(undone) - len(encryptions) > 1:
        raise RefusedError(
            f"It is packed several times over: {' in '.join(reversed(undone))}.",
            remedy="No backup is made so. If you know what it is, unpack the outermost layer, then import it.",
        )
