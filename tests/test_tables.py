"""Tables show names and notes as they are."""

import io

from rich.console import Console

from cnnzoo.support.text import counted, html_table, rich_table


def test_rich_table_keeps_what_looks_like_markup() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(rich_table(("file", "n"), [("[red].png", "1"), ("b", "22")], right=["n"], title="[13]", total="[x]"))
    text = console.file.getvalue()
    assert "[red].png" in text
    assert "[13]" in text
    assert "[x]" in text
    assert "│  1 │" in text  # flush right


def test_a_count_agrees_with_its_unit() -> None:
    assert [counted(count, "step") for count in (0, 1, 2, 64_000)] == ["0 steps", "1 step", "2 steps", "64,000 steps"]


def test_html_table_escapes() -> None:
    assert html_table(("a<b",), [("&",)], "x>y") == (
        "<table><caption>x&gt;y</caption><thead><tr><th>a&lt;b</th></tr></thead>"
        "<tbody><tr><td>&amp;</td></tr></tbody></table>"
    )
