"""What is known about programs before they start and after they have spoken: plain facts, nothing is run here."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "SYSTEMROOT")
_SECRET_WORDS = ("PASS", "SECRET", "TOKEN", "KEY")
_SHORTEST_SECRET = 4  # hiding every "a" would garble the message and hide nothing
_NO_SPACE_TEXTS = (
    "no space left on device",
    "disk full",
    "disk is full",
    "quota exceeded",
    "could not extend file",
    "could not write to file",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program to run: its arguments, and its *complete* environment.

    Start from :func:`base_environment`. Secrets stand in ``env`` or in files, never in ``argv``, which every user of
    the machine can read. ``package`` is the Debian package to name when the program is missing.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    package: str = ""
    cwd: Path | None = None

    @property
    def program(self) -> str:
        """The program's name without its folder, as messages call it."""
        return Path(self.argv[0]).name


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """What a program that has ended left: its output, the end of its messages, its exit status."""

    stdout: bytes = field(repr=False)
    stderr: str
    status: int


def base_environment() -> dict[str, str]:
    """Return the few variables every program may see; messages are in English, whatever the machine's language is.

    :func:`says_no_space`, and people who search for an error, need its original words.
    """
    kept = {name: value for name, value in os.environ.items() if name in _KEPT_VARIABLES}
    kept.setdefault("PATH", os.defpath)
    overall = os.environ.get("LC_ALL", "")
    if overall:
        # It outranks LC_MESSAGES, so it has to give way to what it stands for.
        kept["LANG"] = overall
    else:
        kept |= {name: value for name, value in os.environ.items() if name.startswith("LC_") and value}
    return kept | {"LC_MESSAGES": "C"}


def find_program(name: str, directories: Sequence[Path]) -> Path | None:
    """Return the first executable file of that name in the directories, in their order."""
    candidates = (directory / name for directory in directories)
    return next((path for path in candidates if path.is_file() and os.access(path, os.X_OK)), None)


def says_no_space(stderr: str) -> bool:
    """Say whether a program's messages mean that a disk is full, here or at the server."""
    lowered = stderr.lower()
    return any(text in lowered for text in _NO_SPACE_TEXTS)


def without_secrets(text: str, env: Mapping[str, str]) -> str:
    """Return the text with the environment's secrets replaced by ``***``: some programs repeat what they are given."""
    for name, value in env.items():
        is_secret = any(word in name.upper() for word in _SECRET_WORDS) and not name.upper().endswith("FILE")
        if is_secret and len(value) >= _SHORTEST_SECRET:
            text = text.replace(value, "***")
    return text
