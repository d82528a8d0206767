"""The files of the project say what is so: versions, tools, commit messages, and the way that a newcomer is shown."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest
from commit_message import fault

import cnnzoo

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r'^( *)```\w+ title="(\S+)"( add)?\n(.*?)^\1```$', re.DOTALL | re.MULTILINE)
WEIGHTS = """
import cnnzoo, hashlib, pathlib
path = pathlib.Path("cnnzoo/checkpoints/bundled/doenet-fashion_mnist.safetensors")
cnnzoo.save_pretrained(cnnzoo.create("doenet", seed=0), "run")
path.write_bytes(pathlib.Path("run/model.safetensors").read_bytes())
table = pathlib.Path("cnnzoo/checkpoints/table.toml")
table.write_text(table.read_text("utf-8").replace(64 * "0", hashlib.sha256(path.read_bytes()).hexdigest()), "utf-8")
"""
"""Weights that were not trained take the place of those of `cnnzoo train`."""


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def test_citation_has_the_version_and_the_licence() -> None:
    stated = dict(re.findall(r"^([\w-]+): (.+)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE))
    assert stated["version"] == cnnzoo.__version__
    assert stated["license"] == project()["project"]["license"]
    assert stated["abstract"] == project()["project"]["description"]


def test_changelog_has_the_version_or_is_unreleased() -> None:
    first = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert first
    assert first[1] in ("Unreleased", cnnzoo.__version__)


def test_tools_are_pinned_once() -> None:
    extras = project()["project"]["optional-dependencies"]
    for tool in ("ruff", "pyright"):
        pinned = [one for needs in extras.values() for one in needs if re.match(rf"{tool}\b.*==", one)]
        assert len(pinned) == 1
        version = pinned[0].partition("==")[2]
        for path in (".pre-commit-config.yaml", "Makefile", ".ci/run"):
            assert version not in (ROOT / path).read_text("utf-8")


def test_editors_and_ruff_agree() -> None:
    width = re.search(r"^\[\*\]\n(?:.+\n)*?max_line_length = (\d+)", (ROOT / ".editorconfig").read_text(), re.MULTILINE)
    assert width
    assert int(width[1]) == project()["tool"]["ruff"]["line-length"]


@pytest.mark.parametrize(
    "path", [*sorted((ROOT / ".github/ISSUE_TEMPLATE").iterdir()), ROOT / ".pre-commit-config.yaml"]
)
def test_forms_are_yaml(path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    form = yaml.safe_load(path.read_text("utf-8"))
    if "body" in form:
        ids = [field["id"] for field in form["body"]]
        assert len(set(ids)) == len(ids)
        assert form["name"]
        assert form["description"]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("ResNet: shortcut C in halves\n\nBecause.\n", ""),
        ("Merge branch 'a' into b, whose name is as long as the name of a branch may be in git\n", ""),
        ("# a comment of git's\nA subject\n", ""),
        ("", "the first line is empty"),
        ("x" * 73, "the first line has 73 characters; it takes at most 72"),
        ("A subject.", "ends with a full stop"),
        ("A subject\nand more", "the second line is not blank"),
    ],
)
def test_commit_message(message: str, expected: str) -> None:
    found = fault(message)
    assert expected in found if expected else not found


def test_tests_that_security_names_are_there() -> None:
    named = re.findall(r"`(test_\w+\.py)(?:::(test_\w+))?`", (ROOT / "SECURITY.md").read_text("utf-8"))
    assert len(named) > 10
    for file, test in named:
        assert f"def {test or 'test_'}" in (ROOT / "tests" / file).read_text("utf-8")


# The way of a newcomer


def followed(folder: Path) -> list[str]:
    """Do in a copy of the project what CONTRIBUTING shows; the files that were written or got a line."""
    for part in ("cnnzoo", "tests", "benchmarks", "docs"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "CHANGELOG.md", "pyproject.toml", "mkdocs.yml"):
        shutil.copy(ROOT / name, folder)
    touched = []
    for indent, name, add, text in BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text("utf-8")):
        path, text = folder / name, textwrap.dedent(indent + text.removeprefix(indent))
        assert path.exists() == bool(add), name
        path.write_text((path.read_text("utf-8") if add else "") + text, "utf-8")
        touched.append(name)
    return touched


@pytest.mark.slow
def test_a_network_weights_and_a_recipe_are_added_as_contributing_says(tmp_path: Path) -> None:
    touched = followed(tmp_path)
    assert touched == [
        "cnnzoo/papers/doenet.toml",
        "cnnzoo/models/doenet.py",
        "cnnzoo/models/__init__.py",
        "cnnzoo/_public.py",
        "tests/facts/doenet.txt",
        "tests/facts/totals.txt",
        "cnnzoo/checkpoints/table.toml",
        "cnnzoo/training/recipes/doenet_fashion.toml",
    ]

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(tmp_path)},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("-c", WEIGHTS)
    run("-m", "cnnzoo._stubs")  # make stubs
    assert "doenet.fashion_mnist" in (tmp_path / "cnnzoo/zoo.pyi").read_text("utf-8")
    verified = " ".join(run("-m", "cnnzoo", "verify", "doenet").split())
    assert re.search(r"(\d+) figures: \1 agree", verified), verified
    run("-c", "import cnnzoo; assert cnnzoo.load_pretrained('doenet', checksum=True).checkpoint.tag == 'fashion_mnist'")
    run("-m", "benchmarks", "reproductions")
    assert "[doenet_fashion](recipes.md#doenet_fashion)" in (tmp_path / "docs/reproductions.md").read_text("utf-8")
    files = (f"tests/test_{name}.py" for name in ("networks", "layers", "table", "recipes", "reproductions"))
    tests = run("-m", "pytest", "-q", "-k", "doenet or test_page_in_the_documentation", *files)
    found = re.search(r"(\d+) passed", tests)
    assert found
    assert int(found[1]) > 15
