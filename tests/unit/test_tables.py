"""Tables of text: they fit, say what they leave out, and nobody's name breaks them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erp_backup.management.tables import plain, render

ROWS = [("erp_item", "1,204", "="), ("a very long name of a table that nobody would type", "7", "DIFFERS")]


class TestRender:
    """Columns."""

    def test_room_enough__aligned(self) -> None:
        """Text to the left, numbers to the right, nothing cut, no blanks at the end of a line."""
        lines = render(("Table", "Rows", ""), ROWS[:1], right=frozenset({1}), width=80)

        assert ["Table      Rows", "--------  -----  -", "erp_item  1,204  ="] == lines

    def test_narrow__widest_text_cut_and_said(self) -> None:
        """What is cut says so; numbers are whole."""
        lines = render(("Table", "Rows", ""), ROWS, right=frozenset({1}), width=40)

        assert max(map(len, lines)) <= 40
        assert "a very long name of a..." in lines[-1]
        assert "1,204" in lines[-2]

    def test_column_that_must_be_whole__wider_than_the_terminal(self) -> None:
        """A name that the next command needs is never cut."""
        lines = render(("Table", "Rows", ""), ROWS, whole=frozenset({0}), width=20)

        assert ROWS[1][0] in lines[-1]

    def test_no_rows__only_headings(self) -> None:
        """Nothing is not an error."""
        assert ["A  B", "-  -"] == render(("A", "B"), [], width=80)

    @given(
        st.lists(st.tuples(st.text(max_size=60), st.integers(0, 10**12).map(str), st.text(max_size=60)), max_size=5),
        st.integers(40, 120),
    )
    def test_any_text__one_line_a_row_within_the_width(self, rows: list[tuple[str, str, str]], width: int) -> None:
        """Whatever stands in the cells, there is one line for each row, and it fits."""
        lines = render(("A", "Number", "B"), rows, right=frozenset({1}), width=width)

        assert len(rows) + 2 == len(lines)
        assert all(len(line) <= width for line in lines)
        assert all(line.isprintable() for line in lines)


class TestPlain:
    """Names from databases."""

    @pytest.mark.parametrize("text", ["erp_item", "böhm's", "表", ""])
    def test_printable__as_it_is(self, text: str) -> None:
        """Names in any language stay as they are."""
        assert text == plain(text)

    @pytest.mark.parametrize("text", ["a\x1b[2Jb", "a\rb", "a\nb", "a\tb", "a\0b", "a\u202eb"])
    def test_control_characters__replaced(self, text: str) -> None:
        """No table's name clears the screen or turns the line round."""
        assert plain(text).isprintable()
        assert plain(text).startswith("a")
        assert plain(text).endswith("b")
