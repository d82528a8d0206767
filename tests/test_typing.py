"""What type checkers see: `create` and `load_pretrained` by name, and calls that must be rejected."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cnnzoo
from cnnzoo import _stubs
from cnnzoo.support.text import numerically

REVEALED = {
    'cnnzoo.create("lenet5", classic=True)': "LeNet5",
    'cnnzoo.create("lenet5", activation="relu", pool="max", device="meta", seed=1)': "LeNet5",
    'cnnzoo.create("captcha_cnn", charset="ab", length=3)': "CaptchaCNN",
    'cnnzoo.create("convnet", filters=(4, 8))': "CNN",
    'cnnzoo.create(cnnzoo.spec("lenet5").name)': "Module",
    "[cnnzoo.create(name) for name in cnnzoo.list_models()]": "list[Module]",
    'cnnzoo.load_pretrained("lenet5", classic=True)': "LeNet5",
    'cnnzoo.load_pretrained("lenet5.classic_fashion_mnist")': "LeNet5",
    "cnnzoo.load_pretrained(Path('a.safetensors'))": "Module",
    "cnnzoo.lenet5(classic=True)": "LeNet5",
    "cnnzoo.output_size(28, 5)": "int",
    "cnnzoo.output_size((28, 28), 5)": "tuple[int, ...]",
    "cnnzoo.min_input_size(cnnzoo.lenet5())": "int | tuple[int, ...]",
    "cnnzoo.verify('lenet5').ok": "bool",
    "cnnzoo.infer_shapes(cnnzoo.lenet5(), (1, 28, 28))": "list[LayerShape]",
    "cnnzoo.summary(cnnzoo.lenet5())": "Summary",
    "cnnzoo.truncate(cnnzoo.lenet5(), until='s4')": "CNN",
    'cnnzoo.load_pretrained("lenet5").checkpoint': "Checkpoint",
    'cnnzoo.load_pretrained("lenet5").checkpoint.classes': "tuple[str, ...]",
    'cnnzoo.load_pretrained("lenet5", hub=bool(1)).checkpoint.preprocessing': "Preprocessing",
    'cnnzoo.create("lenet5").config.name': "str",
    "cnnzoo.verify('lenet5').rows[0].layer": "str",
    "cnnzoo.summary('lenet5').layers[0].output_shape": "tuple[int, ...]",
    "cnnzoo.draw('lenet5').svg": "str",
    "cnnzoo.spec('lenet5').paper.title": "str",
    "cnnzoo.load_recipe('lenet5_mnist').preprocessing": "Preprocessing",
    "cnnzoo.load_features(Path('a')).features": "Tensor",
    "cnnzoo.extract(cnnzoo.lenet5(), 'c1')": "Extractor",
}

REJECTED = [
    'cnnzoo.create("lenet6")',
    'cnnzoo.create("lenet5", clasic=True)',
    'cnnzoo.create("lenet5", activation="gelu")',
    'cnnzoo.create("lenet5", num_classes="ten")',
    'cnnzoo.create("convnet", classic=True)',
    'cnnzoo.create("captcha_cnn", num_classes=10)',
    'cnnzoo.load_pretrained("lenet5.imagenet")',
    "cnnzoo.lenet5(10)",
    "cnnzoo.lenet6",
    "cnnzoo.output_size(28)",
    "cnnzoo.GoogLeNet({}, num_clases=3)",
    "cnnzoo.GoogLeNet({}, num_classes='3')",
    "cnnzoo.LeNet5({}, head=3)",
    'cnnzoo.load_pretrained("lenet5").checkpoint.trnsforms()',
    'cnnzoo.create("googlenet").config.nme',
    "cnnzoo.verify('lenet5').okay",
    "cnnzoo.summary('lenet5').layrs",
    "cnnzoo.draw('lenet5').sve('a.svg')",
    "cnnzoo.spec('lenet5').paper.titel",
    "cnnzoo.load_recipe('lenet5_mnist').preprocesing",
]

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "docs" / "index.md", *sorted((ROOT / "docs" / "guide").glob("*.md"))]
EXAMPLE = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def diagnostics(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What pyright says of a file with a `reveal_type` of each of `REVEALED`, then each of `REJECTED`, one to a line."""
    folder = tmp_path_factory.mktemp("typing")
    lines = ["from pathlib import Path", "import cnnzoo"]
    lines += [f"reveal_type({expression})" for expression in REVEALED]
    lines += REJECTED
    (folder / "calls.py").write_text("\n".join(lines) + "\n")
    for page in PAGES:
        (folder / f"page_{page.stem}.py").write_text("".join(EXAMPLE.findall(page.read_text())))
    (folder / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(ROOT)], "reportUnusedExpression": False}))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert run.stdout.startswith("{"), run.stdout + run.stderr
    return json.loads(run.stdout)["generalDiagnostics"]


def on_line(diagnostics: list[dict], number: int) -> list[dict]:
    return [one for one in of_file(diagnostics, "calls") if one["range"]["start"]["line"] == number]


def of_file(diagnostics: list[dict], stem: str) -> list[dict]:
    return [one for one in diagnostics if Path(one["file"]).stem == stem]


@pytest.mark.parametrize("expression", REVEALED)
def test_revealed_types(diagnostics: list[dict], expression: str) -> None:
    (found,) = on_line(diagnostics, 2 + list(REVEALED).index(expression))
    assert found["severity"] == "information"
    assert re.search(r'is "(.*)"$', found["message"])[1] == REVEALED[expression]


@pytest.mark.parametrize("expression", REJECTED)
def test_rejected_calls(diagnostics: list[dict], expression: str) -> None:
    found = on_line(diagnostics, 2 + len(REVEALED) + REJECTED.index(expression))
    assert [one["severity"] for one in found][:1] == ["error"]


def test_overloads_name_exactly_the_registry() -> None:
    text = _stubs.STUB.read_text()
    names = re.findall(r"def create\(name: typing\.Literal\['(\w+)'\]", text)
    assert sorted(names, key=numerically) == cnnzoo.list_models(kind=None)


def test_stub_is_up_to_date() -> None:
    assert _stubs.STUB.read_text() == _stubs.stub(), "run `make stubs`"


def test_package_is_marked_as_typed() -> None:
    assert (Path(cnnzoo.__file__).parent / "py.typed").exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_are_typed(diagnostics: list[dict], page: Path) -> None:
    """No example misuses a name of cnnzoo; networks that an example registers are known when it runs only."""
    names = "|".join(name for name in dir(cnnzoo) if not name.startswith("_") and name not in cnnzoo.list_models())
    lines = "".join(EXAMPLE.findall(page.read_text())).splitlines()
    wrong = []
    for one in of_file(diagnostics, f"page_{page.stem}"):
        number = one["range"]["start"]["line"]
        line, meant = lines[number], lines[number - 1] == "try:"
        named = re.search(r'(?:create|load_pretrained)\("(\w+)', line)
        own = named is not None and named[1] not in cnnzoo.list_models()
        if one["severity"] == "error" and re.search(rf'"({names})\*?"', one["message"]) and not (own or meant):
            wrong.append((line, one["message"]))
    assert wrong == []
