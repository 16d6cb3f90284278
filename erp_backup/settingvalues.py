"""The values of settings, read one by one: of the kind that is needed, or a ConfigurationError that names the key."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from erp_backup.exceptions import ConfigurationError


def mapping(value: object, where: str) -> Mapping[str, Any]:
    """Return a dictionary."""
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{where} is not a dictionary.")
    return value


def text(value: object, where: str) -> str:
    """Return a string; None is the empty one."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ConfigurationError(f"{where} is {value!r}.", remedy="Write it as a string.")
    return value


def texts(value: object, where: str) -> tuple[str, ...]:
    """Return several strings. A single one is refused: it would be read letter by letter, and ``*`` means all."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ConfigurationError(f"{where} is {value!r}, not a list.", remedy=f"Write [{value!r}].")
    return tuple(text(item, f"{where}[{number}]") for number, item in enumerate(value))


def path(value: object, where: str, *, base: Path) -> Path:
    """Return a path; a relative one is below ``base``, wherever a command is started."""
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise ConfigurationError(f"{where} is {value!r}.", remedy="Write it as a path.")
    return base / os.fspath(value)


def whole(value: object, where: str, *, least: int, most: int | None = None) -> int:
    """Return a whole number within its limits."""
    if isinstance(value, int) and not isinstance(value, bool) and least <= value and (most is None or value <= most):
        return value
    limits = f"of at least {least}" if most is None else f"from {least} to {most}"
    raise ConfigurationError(f"{where} is {value!r}.", remedy=f"Write a whole number {limits}.")


def flag(value: object, where: str) -> bool:
    """Return True or False, and take nothing else for it."""
    if not isinstance(value, bool):
        raise ConfigurationError(f"{where} is {value!r}.", remedy="Write True or False.")
    return value


def duration(value: object, where: str) -> timedelta:
    """Return a timedelta as it is, a number as seconds; neither may be zero or less."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = timedelta(seconds=value)
    if not isinstance(value, timedelta):
        raise ConfigurationError(f"{where} is neither a timedelta nor a number of seconds.")
    if value <= timedelta(0):
        raise ConfigurationError(f"{where} is {value}.", remedy="Write a time that is longer than nothing.")
    return value


def choice(value: object, choices: Iterable[str], where: str) -> str:
    """Return one of ``choices``."""
    known = list(choices)
    if value not in known:
        raise ConfigurationError(f"{where} is {value!r}.", remedy=did_you_mean(value, known))
    return str(value)


def known_alias(value: object, aliases: Iterable[str], where: str, setting: str) -> str:
    """Return an alias that Django's setting of that name has."""
    known = list(aliases)
    if value not in known:
        raise ConfigurationError(
            f"{where} names {value!r}, which {setting} does not have.", remedy=did_you_mean(value, known)
        )
    return str(value)


def known_keys(given: Iterable[object], known: Iterable[str], where: str) -> Iterable[ConfigurationError]:
    """Yield an error for each key that is not known, with the nearest one that is."""
    names = list(known)
    for key in given:
        if key not in names:
            yield ConfigurationError(f"{where} has an unknown key {key!r}.", remedy=did_you_mean(key, names))


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return a hint: the nearest of the known names, or all of them."""
    names = sorted(known)
    folded = {name.lower(): name for name in names}
    nearest = difflib.get_close_matches(str(word).lower(), folded, n=1, cutoff=0.5)
    return f"Did you mean {folded[nearest[0]]!r}?" if nearest else f"Known are: {', '.join(names)}."
