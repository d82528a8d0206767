"""The examples of README and documentation run, page by page, from top to bottom."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLE = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    text = page.read_text()
    for example in EXAMPLE.finditer(text):
        line = text.count("\n", 0, example.start(1))
        exec(compile("\n" * line + example[1], str(page), "exec"), names)


def test_readme_has_examples() -> None:
    assert len(EXAMPLE.findall((ROOT / "README.md").read_text())) >= 3


def test_package_docstring_is_true() -> None:
    import doctest

    import cnnzoo

    finder = doctest.DocTestFinder(recurse=False)
    failed = sum(doctest.DocTestRunner().run(test).failed for test in finder.find(cnnzoo, globs={}))
    assert failed == 0
