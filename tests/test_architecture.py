"""Imports point one way, and what is heavy is imported when it is used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "cnnzoo"

# From the bottom up: a file imports from its own line or from those above it.
LAYERS = [
    ["errors"],
    ["support"],
    ["initialization"],
    ["nn"],
    ["construction"],
    ["registry"],
    ["shapes", "shapes.formula", "shapes.receptive_field"],
    ["shapes.probe"],
    ["shapes.rules"],
    ["shapes.trace"],
    ["shapes.summary"],
    ["cnn"],
    ["anatomy"],
    ["extraction"],
    ["models"],
    ["data"],
    ["checkpoints"],
    ["deploy"],
    ["verification", "zoo"],
    ["training", "classification", "extraction.tables", "drawing", "interpretation"],
    ["play", "_stubs"],
    ["_public", "cli", "__main__"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def rank(module: str) -> int:
    """Of the longest part of a module's name that has a place of its own."""
    while module not in RANK:
        assert module, "a module without a place in LAYERS"
        module = module.rpartition(".")[0]
    return RANK[module]


def imported(path: Path) -> set[str]:
    """The modules of cnnzoo that a file imports, at its top or inside its functions, types apart."""
    found = set()
    tree = ast.parse(path.read_text())
    for block in ast.walk(tree):
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING":
            block.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("cnnzoo."):
            found.add(node.module.removeprefix("cnnzoo."))
        elif isinstance(node, ast.ImportFrom) and node.module == "cnnzoo":
            found |= {alias.name for alias in node.names if (PACKAGE / f"{alias.name}.py").exists()}
        elif isinstance(node, ast.Import):
            found |= {a.name.removeprefix("cnnzoo.") for a in node.names if a.name.startswith("cnnzoo.")}
    return found


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_point_downwards(path: Path) -> None:
    own = module_name(path)
    for module in imported(path):
        assert rank(module) <= rank(own), f"{own} imports {module}, which stands above it"


@pytest.mark.parametrize("path", sorted((PACKAGE / "models").glob("[!_]*.py")), ids=lambda path: path.stem)
def test_models_never_import_models(path: Path) -> None:
    assert not {module for module in imported(path) if module.startswith("models")}


def modules_after(statement: str) -> set[str]:
    script = f"import sys\n{statement}\nprint(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return set(run.stdout.split())


def test_import_brings_in_nothing_heavy_but_torch() -> None:
    everything = modules_after("import cnnzoo; cnnzoo.create('lenet5', classic=True)")
    heavy = {
        "torchvision",
        "huggingface_hub",
        "rich",
        "matplotlib",
        "onnx",
        "onnxruntime",
        "openvino",
        "PIL",
        "safetensors",
        "click",
    }
    assert "torch" in everything
    assert everything & heavy == set()


def test_help_does_not_wait_for_torch() -> None:
    script = "from cnnzoo.cli import main; main(['--help'], standalone_mode=False)"
    assert "torch" not in modules_after(
        f"import io, contextlib\nwith contextlib.redirect_stdout(io.StringIO()): {script}"
    )
