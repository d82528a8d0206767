"""What is public: everything that the pages document, and nothing that they do not."""

import ast
import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

import cnnzoo
from cnnzoo.errors import operation

DOCS = Path(__file__).parent.parent / "docs"
ROOMS = (
    "cnnzoo",
    "cnnzoo.data",
    "cnnzoo.initialization",
    "cnnzoo.interpretation",
    "cnnzoo.models",
    "cnnzoo.nn",
    "cnnzoo.shapes",
    "cnnzoo.training",
)
DOCUMENTED = sorted(
    {(page.name, path) for page in DOCS.rglob("*.md") for path in re.findall(r"^::: (\S+)", page.read_text(), re.M)}
)


@pytest.mark.parametrize(("page", "path"), DOCUMENTED)
def test_documented_names_are_public(page: str, path: str) -> None:
    room, _, name = path.rpartition(".")
    assert path in ROOMS or (room in ROOMS and name in dir(import_module(room))), f"{page} documents {path}"


@pytest.mark.parametrize("room", ["cnnzoo.data", "cnnzoo.interpretation", "cnnzoo.nn", "cnnzoo.training"])
def test_rooms_list_what_they_have(room: str) -> None:
    module = import_module(room)
    own = {name for name in module.__all__ if not hasattr(module, name)}
    assert own == set()


def test_names_at_the_top_are_documented() -> None:
    generated = {*cnnzoo.list_models()} | {name for name in dir(cnnzoo) if name in dir(cnnzoo.models)}
    documented = {path.rpartition(".")[2] for _, path in DOCUMENTED}
    pages = {"data", "initialization", "interpretation", "models", "nn", "shapes", "training", "__version__"}
    assert {*dir(cnnzoo)} - generated - documented - pages == set()


def test_networks_stand_at_the_top_and_blocks_do_not() -> None:
    assert {*cnnzoo.list_models()} <= {*dir(cnnzoo)}
    assert not {*cnnzoo.list_models(kind="block")} & {*dir(cnnzoo)}
    assert {*cnnzoo.list_models(kind=None)} <= {*dir(cnnzoo.models)}
    for name in cnnzoo.list_models(kind="block"):
        assert getattr(cnnzoo.models, name) is cnnzoo.spec(name).build


@pytest.mark.parametrize("name", ["TABLE_I", "DIGIT_CODES", "MAPLoss"])
def test_what_belongs_to_one_network_stands_with_it(name: str) -> None:
    assert hasattr(cnnzoo.models, name)
    assert name not in dir(cnnzoo)


PUBLIC = {name for room in ROOMS for name in dir(import_module(room)) if name.islower() and not name.startswith("_")}
SOURCES = sorted(Path(cnnzoo.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(SOURCES[0].parent)))
def test_no_error_spells_the_name_of_a_public_function(path: Path) -> None:
    spelled = [
        text.value
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith(("Error", "unknown"))
        for text in ast.walk(call)
        if isinstance(text, ast.Constant) and isinstance(text.value, str)
        if (start := re.match(r"(\w+):( |$)", text.value)) and start[1] in PUBLIC
    ]
    assert spelled == []


FUNCTIONS = sorted(
    f"{room}.{name}"
    for room in ROOMS
    if room not in ("cnnzoo.models", "cnnzoo.nn")
    for name in getattr(import_module(room), "__all__", dir(import_module(room)))
    if inspect.isfunction(getattr(import_module(room), name)) and not name.startswith("_")
)


@pytest.mark.parametrize("path", [path for path in FUNCTIONS if path.rpartition(".")[2] not in cnnzoo.list_models()])
def test_public_functions_answer_under_their_own_name(path: str) -> None:
    room, _, name = path.rpartition(".")
    function = getattr(import_module(room), name)
    assert function.__code__ is operation(lambda: None).__code__, f"{path} is not decorated with @operation"


def test_errors_begin_with_the_outermost_public_function() -> None:
    @operation
    def inner() -> None:
        raise cnnzoo.OptionError("got 3; expected 4")

    @operation
    def outer() -> None:
        inner()

    with pytest.raises(cnnzoo.OptionError, match=r"^inner: got 3; expected 4$"):
        inner()
    with pytest.raises(cnnzoo.OptionError, match=r"^outer: got 3; expected 4$") as caught:
        outer()
    assert caught.value.text == "got 3; expected 4"
