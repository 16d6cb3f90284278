"""What others on the machine could see while a command runs: command lines, environments, modes of files."""

from __future__ import annotations

import base64
import os
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

_PAUSE = 0.005


@dataclass(frozen=True, slots=True)
class Canary:
    """A secret that is found wherever it appears: as it is, and as the usual encodings leave it.

    `token` is the part of it that quoting does not change; letters and digits only.
    """

    name: str
    token: str

    @property
    def _forms(self) -> Iterator[bytes]:
        raw = self.token.encode()
        yield from (raw, raw.lower(), raw.upper(), raw[::-1], raw.hex().encode())
        # Wherever in a longer text it begins, this much of its base64 is always the same.
        for offset in range(3):
            yield base64.b64encode(b"\0" * offset + raw)[4:-4]

    def is_in(self, content: bytes) -> bool:
        """Whether the secret, or a usual form of it, is in there."""
        return any(form in content for form in self._forms)


@dataclass(frozen=True, slots=True)
class Sighting:
    """A process as anybody (its arguments) and its own user (its environment) could see it."""

    pid: int
    argv: bytes
    environ: bytes

    @property
    def command(self) -> str:
        """Its command line, for people."""
        return self.argv.replace(b"\0", b" ").decode(errors="replace").strip()


@dataclass
class Sampler:
    """Looks, as often as it can, at all descendants of a process and at all files below some folders.

    A process between fork and exec still has its parent's arguments and environment: only what stands with other
    arguments than `root`'s is a sighting.
    """

    root: int
    folders: Iterable[Path] = ()
    sightings: set[Sighting] = field(default_factory=set)
    loose: dict[Path, str] = field(default_factory=dict)
    rounds: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._own = _read(self.root, "cmdline")
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self.rounds += 1
            self._own = self._own or _read(self.root, "cmdline")
            for pid in _descendants(self.root):
                self._look_at(pid)
            for folder in self.folders:
                self.loose |= loose_modes(folder)
            self._stop.wait(_PAUSE)

    def _look_at(self, pid: int) -> None:
        before, environ, after = (_read(pid, name) for name in ("cmdline", "environ", "cmdline"))
        if before == after and before not in {b"", self._own}:
            self.sightings.add(Sighting(pid, before, environ))


def loose_modes(folder: Path) -> dict[Path, str]:
    """Return what others than its owner may use below a folder, itself included, each with its mode."""
    found = {}
    with suppress(FileNotFoundError):
        for path in [folder, *folder.rglob("*")]:
            with suppress(FileNotFoundError):  # it was there for a moment
                mode = path.lstat().st_mode
                expected = 0o700 if stat.S_ISDIR(mode) else 0o600
                if stat.S_IMODE(mode) != expected:
                    found[path] = f"{stat.S_IMODE(mode):04o}"
    return found


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _descendants(pid: int) -> Iterator[int]:
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            for child in _read_children(pid, task):
                yield child
                yield from _descendants(child)


def _read_children(pid: int, task: str) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split()]
    except OSError:
        return []
