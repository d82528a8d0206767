"""The examples of README, documentation and docstrings run, each page from top to bottom."""

import doctest
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import tiny
from test_data import write_idx_folder

import cnnzoo
from cnnzoo.shapes.probe import RULES

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
    finder = doctest.DocTestFinder(recurse=False)
    failed = sum(doctest.DocTestRunner().run(test).failed for test in finder.find(cnnzoo, globs={}))
    assert failed == 0


FUNCTIONS = sorted(
    f"{room}.{name}"
    for room in ("", ".data", ".initialization", ".interpretation", ".shapes", ".training")
    for name in getattr(import_module(f"cnnzoo{room}"), "__all__", dir(import_module(f"cnnzoo{room}")))
    if inspect.isfunction(getattr(import_module(f"cnnzoo{room}"), name)) and not name.startswith("_")
)


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the images that examples name: `data/mnist`, and `photos` with two classes.

    Rules that an example teaches are forgotten.
    """
    rules = dict(RULES)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "mnist").mkdir(parents=True)
    write_idx_folder(tmp_path / "data" / "mnist")
    tiny.write_folder(tmp_path / "photos", splits=("train", "test"))
    yield tmp_path
    RULES.clear()
    RULES.update(rules)


@pytest.mark.parametrize("path", [path for path in FUNCTIONS if path.removeprefix(".") not in cnnzoo.list_models()])
def test_public_functions_have_examples_that_run(path: str, sandbox: Path) -> None:
    room, _, name = path.rpartition(".")
    function = inspect.unwrap(getattr(import_module(f"cnnzoo{room}"), name))
    (example,) = doctest.DocTestFinder(recurse=False).find(function, name, globs={})
    assert example.examples, f"cnnzoo{path} shows no example"
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    assert runner.run(example, out=said.append).failed == 0, "".join(said)


NOUNS = {"a", "an", "the", "how", "what", "where", "whether", "which", "for", "each", "every", "all", "of", "in", "one"}


@pytest.mark.parametrize("path", [path for path in FUNCTIONS if path.removeprefix(".") not in cnnzoo.list_models()])
def test_docstrings_begin_with_an_imperative(path: str) -> None:
    room, _, name = path.rpartition(".")
    first = (inspect.getdoc(getattr(import_module(f"cnnzoo{room}"), name)) or "").split()[0]
    assert re.fullmatch(r"[A-Z][a-z]+,?", first), first
    assert first.lower() not in NOUNS, f"cnnzoo{path} begins with {first}"
    assert not first.endswith("s"), f"cnnzoo{path} begins with {first}"
