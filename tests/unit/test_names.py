"""Names of archives: safe as file names anywhere, never guessed from."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest

from erp_backup.core.errors import UsageError
from erp_backup.core.names import is_manifest, is_safe, manifest_name, new_identifier, require_safe, slug

AT = datetime(2026, 1, 5, 2, 3, 4, tzinfo=timezone(timedelta(hours=5, minutes=45)))
UNSAFE = [
    "",
    ".",
    "..",
    "../x",
    "a/b",
    "/etc/passwd",
    "a\\b",
    ".hidden",
    "-rf",
    "_x",
    "a b",
    "a\nb",
    "a\n",
    "a\0b",
    "a\x1b[31m",
    "é",
    "a:b",
    "a*",
    "x" * 201,
    ".manifest.json",
]


class TestSlug:
    """The beginning of a name."""

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("sme erp's?db", "sme_erp_s_db"),
            ("../../etc/passwd", "etc_passwd"),
            ("База", "database"),
            ("", "database"),
            ("x" * 100, "x" * 60),
            ("-a-", "a"),
        ],
    )
    def test_any_text__letters_digits_and_underscores(self, text: str, expected: str) -> None:
        """Whatever the database is called, the name can be typed."""
        assert expected == slug(text)


class TestIdentifiers:
    """Names of attempts."""

    def test_new__prefix_kind_time_in_utc_and_random(self) -> None:
        """The time is in UTC wherever the machine stands."""
        found = new_identifier("sme erp", "full", AT)

        assert re.fullmatch(r"sme_erp_full_20260104_201804_[a-z0-9]{6}", found)

    def test_same_moment__different(self) -> None:
        """Two attempts never have one name."""
        assert 1000 == len({new_identifier("erp", "full", AT) for _ in range(1000)})

    def test_longest_prefix__still_safe_with_all_suffixes(self) -> None:
        """No database's name makes an archive that cannot be stored."""
        archive = new_identifier("x" * 300, "schema", datetime(9999, 12, 31, tzinfo=UTC)) + ".sqlite3.zst.age"

        assert is_safe(archive)
        assert is_manifest(manifest_name(archive))


class TestSafety:
    """Names from outside."""

    @pytest.mark.parametrize("name", ["a", "A.b-c_9", "x" * 200, "0", "erp_full_20260105_120000_abc123.dump.zst.age"])
    def test_plain_name__safe(self, name: str) -> None:
        """A plain file name is let through as it is, and so is its manifest's."""
        assert is_safe(name)
        assert name == require_safe(name)
        assert is_safe(manifest_name(name))
        assert is_manifest(manifest_name(name))
        assert not is_manifest(name)

    @pytest.mark.parametrize("name", UNSAFE, ids=ascii)
    def test_anything_else__refused(self, name: str) -> None:
        """Folders, control characters, leading dots and dashes are refused, shown without their control characters."""
        assert not is_safe(name)
        with pytest.raises(UsageError) as caught:
            require_safe(name)
        assert all(character.isprintable() for character in str(caught.value))

    @pytest.mark.parametrize("name", UNSAFE, ids=ascii)
    def test_manifest_of_an_unsafe_name__none_of_ours(self, name: str) -> None:
        """What lies about in a folder is not read for its suffix alone."""
        assert not is_manifest(manifest_name(name))
