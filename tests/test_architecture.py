"""Imports point one way, and what is heavy is imported when it is used."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TypeGuard

import pytest
import torch
from torch import fx, nn

PACKAGE = Path(__file__).parent.parent / "cnnzoo"

# From the bottom up: a file imports from its own line or from those above it.
LAYERS = [
    ["errors"],
    ["support"],
    ["catalogue"],
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
    ["reader"],
    ["checkpoints.layouts"],
    ["anatomy"],
    ["extraction"],
    ["models"],
    ["data"],
    ["deploy"],
    ["checkpoints"],
    ["verification", "zoo"],
    ["training", "classification", "extraction.tables", "drawing", "interpretation"],
    ["play", "_stubs"],
    ["_public", "cli", "__main__"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


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


def test_modules_import_in_no_circle() -> None:
    graph = {module_name(path): imported(path) for path in sorted(PACKAGE.rglob("*.py"))}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"{error}")


# Of torch's own, by torch itself: what its modules, tensors and graphs keep behind an underscore.
HIDDEN = {
    name
    for thing in (nn.Module(), nn.Linear(1, 1), nn.Sequential(), torch.empty(0), fx.GraphModule({}, fx.Graph()))
    for name in {*dir(thing), *vars(type(thing))}
    if name.startswith("_") and not name.startswith("__")
}


def private_in_torch(path: Path) -> set[str]:
    """The names that a file takes from torch though torch keeps them to itself."""
    tree = ast.parse(path.read_text())
    roots = {"torch", "nn", "fx", "F", "functional"}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "torch":
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            found |= {name for name in names if name.startswith("_") and not name.startswith("__")}
        elif isinstance(node, ast.Import):
            parts = [alias.name.split(".") for alias in node.names if alias.name.startswith("torch")]
            found |= {name for names in parts for name in names if name.startswith("_")}
        elif isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            chain = ast.unparse(node)
            if node.attr in HIDDEN or chain.partition(".")[0] in roots:
                found.add(node.attr)
    return found


@pytest.mark.parametrize("path", [path for path in FILES if path.stem != "torch_private"], ids=module_name)
def test_what_torch_keeps_to_itself_is_used_in_one_file(path: Path) -> None:
    assert private_in_torch(path) == set()


def test_what_torch_keeps_to_itself_is_found() -> None:
    used = private_in_torch(PACKAGE / "support" / "torch_private.py")
    assert {"_C", "_pytree", "_parameters", "_non_persistent_buffers_set", "_NormBase"} <= used


def changes_torch(path: Path) -> set[str]:
    """What a file changes for the whole process: attributes of torch's modules and classes, hooks on every module."""
    tree = ast.parse(path.read_text())
    targets = [
        target
        for node in ast.walk(tree)
        if isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Delete))
        for target in (node.targets if isinstance(node, (ast.Assign, ast.Delete)) else [node.target])
    ]
    names = {ast.unparse(target) for target in targets if isinstance(target, (ast.Attribute, ast.Subscript))}
    names |= {ast.unparse(call.args[0]) for call in ast.walk(tree) if is_call_of(call, "setattr", "delattr")}
    hooks = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    swapped = {name for name in names if name.partition(".")[0] in ("torch", "nn", "F", "fx")}
    return swapped | {hook for hook in hooks if hook.startswith(("register_module_", "set_default_"))}


def is_call_of(node: ast.AST, *names: str) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_nothing_is_changed_for_the_whole_process(path: Path) -> None:
    assert changes_torch(path) == set()
