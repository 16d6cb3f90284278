"""The newest number and hash of each database, kept outside every database and location."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from erp_backup.core.errors import CorruptError
from erp_backup.services.heads import Head, advance_head, read_heads
from tests.support.host import REPOSITORY

ADVANCING = """
import sys
from pathlib import Path
from erp_backup.services.heads import Head, advance_head
print("ready", flush=True)
sys.stdin.readline()
for number in range(1, 41):
    advance_head(Path(sys.argv[1]), sys.argv[2], Head(number=number, sha256="a", name="b"))
"""


def head(number: int) -> Head:
    """A head of that number."""
    return Head(number=number, sha256=f"{number}" * 4, name=f"erp_{number}")


class TestHeads:
    """Read and advanced."""

    def test_new_installation__none(self, tmp_path: Path) -> None:
        """There is nothing to compare with yet."""
        assert {} == read_heads(tmp_path)

    def test_advanced__read_and_private(self, tmp_path: Path) -> None:
        """Each database has its own, in a file that is only ours."""
        advance_head(tmp_path, "default", head(1))
        advance_head(tmp_path, "archive", head(7))
        advance_head(tmp_path, "default", head(2))

        assert {"default": head(2), "archive": head(7)} == read_heads(tmp_path)
        assert 0o600 == (tmp_path / "heads.json").stat().st_mode & 0o777
        assert {"heads.json", "locks"} == {path.name for path in tmp_path.iterdir()}

    @pytest.mark.parametrize("number", [0, 4, 5])
    def test_older__not_taken(self, tmp_path: Path, number: int) -> None:
        """A head never goes back, nor is it replaced by another of the same number."""
        advance_head(tmp_path, "default", head(5))
        advance_head(tmp_path, "default", Head(number=number, sha256="other", name="other"))

        assert {"default": head(5)} == read_heads(tmp_path)

    def test_killed_while_writing__the_older_one_stands(self, tmp_path: Path) -> None:
        """What a dead process left beside the file does no harm."""
        advance_head(tmp_path, "default", head(5))
        (tmp_path / ".heads.json.new").write_text("{")

        assert {"default": head(5)} == read_heads(tmp_path)
        advance_head(tmp_path, "default", head(6))
        assert {"default": head(6)} == read_heads(tmp_path)

    @pytest.mark.parametrize(
        "content", ["", "{", "[]", '{"default": []}', '{"default": {"number": "7"}}', '{"default": 5}', "\xff"]
    )
    def test_damaged__said_with_what_to_do(self, tmp_path: Path, content: str) -> None:
        """A damaged file is not taken for a new installation: whoever damaged it may hide a rollback."""
        (tmp_path / "heads.json").write_text(content, encoding="latin-1")
        with pytest.raises(CorruptError, match=r"heads\.json is damaged") as caught:
            read_heads(tmp_path)
        with pytest.raises(CorruptError):
            advance_head(tmp_path, "default", head(1))

        assert "remove the file" in caught.value.remedy

    def test_written_before_fields_were_added__read(self, tmp_path: Path) -> None:
        """A file of another version is read as far as it is known."""
        (tmp_path / "heads.json").write_text(json.dumps({"default": {"number": 3, "invented": True}}))

        assert {"default": Head(number=3)} == read_heads(tmp_path)

    def test_two_databases_at_the_same_moment__neither_is_lost(self, tmp_path: Path) -> None:
        """Two backups of different databases end together: each head is the newest."""
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", ADVANCING, str(tmp_path), alias],
                cwd=REPOSITORY,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for alias in ("one", "other")
        ]
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in processes:
            process.communicate()
            assert 0 == process.returncode

        assert {"one": 40, "other": 40} == {alias: found.number for alias, found in read_heads(tmp_path).items()}
