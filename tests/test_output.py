"""What commands print: on wide and narrow terminals, in a pipe, without colours, and while one waits."""

import contextlib
import fcntl
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click.testing
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result
from test_data import write_idx_folder

import cnnzoo
from cnnzoo import _stubs, catalogue
from cnnzoo.cli import main
from cnnzoo.data.image_files import samples
from cnnzoo.support.text import numerically, rich_table, wrapped

COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
FRAME = set("┏┓┗┛┃━│─└┘├┤╇╈┡┩┳┻┴┼")

PRINTING = {
    "list": ["list"],
    "blocks": ["list", "--blocks"],
    "show": ["show", "resnet50"],
    "show-lenet5": ["show", "lenet5"],
    "shapes": ["shapes", "resnet50"],
    "shapes-inception": ["shapes", "inception_resnet_v2"],
    "shapes-captcha": ["shapes", "captcha_cnn"],
    "verify": ["verify", "lenet5", "--classic"],
    "differences": ["verify", "--against", "torchvision.models.resnet50", "--classic", "--differences"],
    "weights": ["weights"],
    "recipes": ["recipes"],
    "predict": ["predict", "{boot}", "--checkpoint", "fashion_mnist"],
    "features": ["features", "{folder}", "--model", "lenet5", "--out", "{out}/t.safetensors", "--workers", "0"],
    "train": ["train", "fashion_textbook", "--data", "{data}", "--steps", "2", "--out", "{out}/run", "--set", "batch_size=8"],
    "eval": ["eval", "lenet5_fashion", "--data", "{data}", "--weights", "lenet5.fashion_mnist", "--device", "cpu"],
    "demo": ["demo", "--out", "{out}/maps.png"],
    "draw": ["draw", "lenet5", "--out", "{out}/lenet5.svg"],
    "help": ["--help"],
}  # fmt: skip
TABLES = [name for name in PRINTING if name not in ("features", "train", "eval", "draw", "help", "demo")]

EXACT = {
    "list": ["tutorial_lenet5_sigmoid", "138,357,544", "853,018", "fb_swsl_ig1b_ft_in1k"],
    "blocks": ["inception_resnet_c"],
    "show": ["fb_ssl_yfcc100m_ft_in1k", "25,557,032", "num_classes=0", "https://arxiv.org/abs/1512.03385"],
    "show-lenet5": ["classic_fashion_mnist", "61,706"],
    "shapes": ["conv2_x.0.conv1", "conv3_x.0.downsample.0", "AdaptiveAvgPool2d", "2,359,296", "118,013,952", "2,048,000"],
    "shapes-inception": [layer.name for layer in cnnzoo.summary("inception_resnet_v2").layers],
    "shapes-captcha": ["BatchNorm2d"],
    "verify": ["initialization", "122,304", "340,908"],
    "differences": ["DIFFERS"],
    "weights": ["resnet50.fb_ssl_yfcc100m_ft_in1k", "timm/resnet50.fb_ssl_yfcc100m_ft_in1k", "cc-by-nc-4.0"],
    "recipes": ["tutorial_mnist_cnn_fashion", "cifar_preresnet164_short"],
    "predict": ["boot.png"],
    "train": ["model.safetensors"],
    "help": ["export-weights", "repository)", "archive,", "multiply-adds"],
}  # fmt: skip
"""Names and numbers that a reader, or another program, looks for."""


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "folder" / "boots").mkdir(parents=True)
    samples("fashion_mnist")[9].image.save(tmp_path / "boot.png")
    samples("fashion_mnist")[9].image.save(tmp_path / "folder" / "boots" / "boot.png")
    (tmp_path / "data").mkdir()
    write_idx_folder(tmp_path / "data", repeat=2)
    places = {"boot": tmp_path / "boot.png", "folder": tmp_path / "folder", "data": tmp_path / "data"}
    return places | {"out": tmp_path}


def run(*arguments: object, **environment: str) -> Result:
    return CliRunner(env=environment).invoke(main, [str(argument) for argument in arguments])


def printed(name: str, places: dict[str, Path], **environment: str) -> str:
    result = run(*(part.format(**places) for part in PRINTING[name]), **environment)
    assert result.exit_code == (1 if name == "differences" else 0), result.output
    return result.stdout


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard output of the commands is a terminal."""
    monkeypatch.setattr(click.testing._NamedTextIOWrapper, "isatty", lambda self: True, raising=False)


def words(text: str) -> set[str]:
    """What stands between blanks, frames and commas that end a word."""
    return {word.strip(",;:()") for word in re.split(r"[\s┃│]+", text)} | {*re.split(r"[\s┃│]+", text)}


def assert_whole(name: str, text: str) -> None:
    for exact in EXACT.get(name, []):
        found = any(exact in word for word in words(text))
        assert found, f"{exact} is broken"


@pytest.mark.parametrize("name", PRINTING)
def test_in_a_pipe(name: str, places: dict[str, Path]) -> None:
    """Whatever the terminal is said to be: one row a line, in which nothing is cut or framed."""
    text = printed(name, places, COLUMNS="40", FORCE_COLOR="1", TERM="xterm-256color")
    assert not COLOUR.search(text)
    if name != "demo":  # digits in frames
        assert not FRAME & set(text)
    if name != "help":
        assert_whole(name, text)
    if name in TABLES:
        assert "\t" in text
    assert name == "help" or not any(line.endswith(("…", "...")) for line in text.splitlines())


@pytest.mark.parametrize("name", PRINTING)
@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.usefixtures("terminal")
def test_on_a_terminal(name: str, columns: int, places: dict[str, Path]) -> None:
    text = COLOUR.sub("", printed(name, places, COLUMNS=str(columns), TERM="xterm-256color"))
    assert_whole(name, text)
    long = [line for line in text.splitlines() if len(line) > columns and not re.search(rf"\S{{{columns - 20}}}", line)]
    assert not long or name in ("features", "draw", "demo", "train")  # with a path, which is copied as a whole
    assert "…" not in text


@pytest.mark.parametrize("name", PRINTING)
@pytest.mark.usefixtures("terminal")
def test_without_colours(name: str, places: dict[str, Path]) -> None:
    text = printed(name, places, COLUMNS="80", NO_COLOR="1", TERM="xterm-256color")
    shown = re.sub(r"\x1b\[(?:\?25[lh]|2K|\d*A|1A)", "", text)  # how a progress bar moves
    assert not COLOUR.search(shown)
    assert_whole(name, shown)


@pytest.mark.usefixtures("terminal")
def test_with_colours_where_nobody_objects(places: dict[str, Path]) -> None:
    assert "\x1b[1m" in printed("list", places, COLUMNS="80", TERM="xterm-256color", NO_COLOR="")


def test_rows_of_a_pipe_are_those_of_the_table() -> None:
    lines = run("list").stdout.splitlines()
    assert lines[0].split("\t") == ["network", "input", "parameters", "classic", "weights"]
    assert [line.split("\t")[0] for line in lines[1:]] == cnnzoo.list_models()
    assert {line.count("\t") for line in lines} == {4}
    summary = cnnzoo.summary("resnet50")
    title, heading, *rows, total = run("shapes", "resnet50").stdout.splitlines()
    assert title == "# resnet50 on 3x224x224"
    assert [tuple(row.split("\t")) for row in rows] == [*summary.rows()]
    assert total == f"# {summary.total}"
    assert heading.split("\t")[0] == "layer"


def test_what_the_issue_greps(places: dict[str, Path]) -> None:
    """`cnnzoo list | grep -c tutorial_lenet5_sigmoid`, `cnnzoo shapes resnet50 | grep conv2_x.0.conv1`."""
    assert sum("tutorial_lenet5_sigmoid" in line for line in run("list").stdout.splitlines()) == 1
    assert sum("conv2_x.0.conv1" in line for line in run("shapes", "resnet50").stdout.splitlines()) == 1


@pytest.mark.parametrize("width", range(12, 130, 7))
def test_a_table_of_any_width_breaks_prose_only(width: int) -> None:
    import io

    from rich.console import Console

    rows = [("a_name.of.some.layer", "14,964,736", "some words that say more", "[x]"), ("b", "1", "", "y")]
    table = rich_table(
        ("name", "the number", "note", ""), rows, right=["the number"], prose=["note"], title="what", total="all"
    )
    file = io.StringIO()
    Console(file=file, width=width).print(table, crop=False)
    text = file.getvalue()
    for whole in ("a_name.of.some.layer", "14,964,736", "[x]"):
        assert whole in text
    assert max(map(len, text.splitlines())) <= max(width, len("a_name.of.some.layer"))
    for word in ["some", "words", "that", "say", "more"]:
        assert word in text


def test_prose_is_broken_between_words_and_paths_are_not() -> None:
    path = "/a/very-long/path-with-hyphens/that/nobody-breaks.safetensors"
    assert wrapped(f"weights: {path}", 20) == ["weights:", path]


@contextlib.contextmanager
def on_a_terminal(
    *arguments: str, columns: int = 80, **environment: str
) -> Iterator[tuple[subprocess.Popen, Callable]]:
    """The program on a terminal of its own; the function reads what it has printed until it ends."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "NO_COLOR")}
    command = [sys.executable, "-m", "cnnzoo", *arguments]
    process = subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, env=env | {"TERM": "xterm"} | environment
    )
    os.close(follower)

    def rest() -> str:
        found = b""
        with contextlib.suppress(OSError):  # the end, on Linux
            while piece := os.read(leader, 1 << 16):
                found += piece
        return found.decode().replace("\r\n", "\n")

    try:
        yield process, rest
    finally:
        process.kill()
        process.wait()
        os.close(leader)


@pytest.mark.parametrize("columns", [80, 120])
def test_on_a_real_terminal(columns: int) -> None:
    with on_a_terminal("list", columns=columns) as (_, rest):
        text = COLOUR.sub("", rest())
    assert_whole("list", text)
    assert max(map(len, text.splitlines())) <= columns


def test_whoever_reads_may_stop() -> None:
    """`cnnzoo list | head -1` ends without a word."""
    with subprocess.Popen(
        [sys.executable, "-m", "cnnzoo", "weights"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""


# What prints as a table


@pytest.mark.parametrize(
    "view",
    [lambda: cnnzoo.summary("resnet50"), lambda: cnnzoo.verify("lenet5", classic=True)],
    ids=["summary", "verification"],
)
def test_str_and_repr_are_the_table(view: Callable[[], object]) -> None:
    shown = view()
    assert str(shown) == repr(shown)
    assert "(layers=" not in str(shown)
    assert "Row(" not in str(shown)
    assert "┃ layer" in str(shown)
    assert shown.total in str(shown)
    assert all(
        any(name in line for line in str(shown).splitlines()) for name in ("conv1", "parameters") if name != "conv1"
    )
    assert "x28x28" in str(shown)


def test_names_in_a_summary_are_whole() -> None:
    text = str(cnnzoo.summary("inception_resnet_v2"))
    for layer in cnnzoo.summary("inception_resnet_v2").layers:
        assert f"│ {layer.name} " in text


# Answers at once


def seconds(*arguments: str) -> float:
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "cnnzoo", *arguments], capture_output=True, check=False)
    return time.monotonic() - started


QUICK = [
    ["list"],
    ["list", "nosuch"],
    ["list", "--pretrained", "--json"],
    ["show", "resnet50"],
    ["show", "resnet50", "--json"],
    ["show", "resnett50"],
    ["shapes", "resnett50"],
    ["verify", "resnett50"],
    ["draw", "resnett50"],
    ["weights"],
    ["weights", "resnett50"],
    ["recipes"],
    ["train", "resnett50"],
    ["eval", "resnett50"],
    ["predict", "boot.png", "--model", "resnett50"],
    ["features", "folder", "--model", "resnett50", "--out", "t.safetensors"],
    ["see", "filters", "--model", "resnett50"],
    ["export-onnx", "resnett50", "--out", "t.onnx"],
    ["export-weights", "resnett50", "--layout", "timm", "--out", "t.pth"],
    ["train", "--help"],
]


@pytest.mark.parametrize("arguments", QUICK, ids=" ".join)
def test_what_the_package_knows_is_answered_without_torch(arguments: list[str]) -> None:
    script = (
        "import sys\nfrom cnnzoo.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit: pass\n"
        "assert not {'torch', 'torchvision', 'numpy', 'PIL'} & {*sys.modules}"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "Assertion" not in done.stderr
    assert done.returncode == 0, done.stderr
    if "resnett50" in arguments:
        assert re.search(r"unknown (network|recipe) 'resnett50': did you mean 'resnet50", done.stderr)


def test_the_catalogue_is_the_registry() -> None:
    assert _stubs.CATALOGUE.read_text("utf-8") == _stubs.catalogued(), "run `make stubs`"
    for name in cnnzoo.list_models(kind=None):
        known, spec = catalogue.entry(name), cnnzoo.spec(name)
        assert known.params == sum(one.numel() for one in cnnzoo.create(name, device="meta").parameters())
        assert {one.name: one.default for one in known.arguments} == {
            key: repr(one.default) for key, one in spec.parameters.items()
        }
        assert (known.checkpoints, known.has_classic, known.input_shape) == (
            spec.checkpoints,
            spec.has_classic,
            spec.input_shape,
        )
        assert all(one.meaning for one in known.arguments)
    assert list(catalogue.recipes()) == cnnzoo.list_recipes()


def test_lists_are_sorted_as_people_count() -> None:
    names = cnnzoo.list_models()
    assert names.index("resnet18") < names.index("resnet50") < names.index("resnet101")
    assert names.index("cifar_preresnet164") < names.index("cifar_preresnet1001")
    recipes = cnnzoo.list_recipes()
    assert recipes.index("resnet18") < recipes.index("resnet101")
    assert sorted(["a10", "a9b", "a", "a9", "b1"], key=numerically) == ["a", "a9", "a9b", "a10", "b1"]
    weights = [line.split("\t")[0] for line in run("weights").stdout.splitlines()[1:]]
    assert weights.index("resnet18.a1_in1k") < weights.index("resnet101.a1h_in1k")


# For a person


@pytest.mark.parametrize("name", cnnzoo.list_models(kind=None))
def test_show_is_written_for_a_person(name: str) -> None:
    text = run("show", name).stdout
    assert not re.search(r"\{\}|`|Args:|Raises:|None\b.*None\b.*\n.*Returns:|arguments as for", text)
    first, _, paper, *_ = text.splitlines()
    assert first.startswith(f"{name}: ")
    assert first.endswith((".", ")", '"'))
    assert paper.startswith("Paper: ")


def test_summaries_of_commands_are_whole() -> None:
    text = " ".join(run("--help").stdout.split())
    assert "..." not in text.partition("Commands:")[2]
    for name, command in main.commands.items():
        assert " ".join(command.get_short_help_str(10_000).split()) in text, name


def test_a_list_of_nothing_is_an_error() -> None:
    for arguments, message in (
        (("list", "resnett50"), "no network matches 'resnett50': did you mean 'resnet50'"),
        (("list", "resnet*", "--family", "vgg"), "no network of family vgg and matches 'resnet*'"),
        (("list", "basic_blok", "--blocks"), "no block matches 'basic_blok': did you mean 'basic_block'?"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2
        assert message in result.stderr
        assert result.stdout == ""


# Completion


def completed(*arguments: str) -> list[str]:
    shell = ShellComplete(main, {}, "cnnzoo", "_CNNZOO_COMPLETE")
    return [item.value for item in shell.get_completions(list(arguments[:-1]), arguments[-1])]


def test_a_shell_completes_networks_recipes_and_tags() -> None:
    assert completed("show", "resnet1") == ["resnet18", "resnet101", "resnet152"]
    assert completed("shapes", "basic_") == ["basic_block"]
    assert completed("verify", "lenet5", "vgg11_") == ["vgg11_bn", "vgg11_lrn"]
    assert completed("train", "lenet5_f") == ["lenet5_fashion"]
    assert completed("eval", "resnet50_") == ["resnet50_short"]
    assert completed("predict", "a.png", "--model", "lenet5.f") == ["lenet5.fashion_mnist"]
    assert completed("predict", "a.png", "--model", "lenet5", "--checkpoint", "c") == [
        "classic_mnist",
        "classic_fashion_mnist",
    ]
    assert completed("features", "images", "--model", "resnet50", "--transforms", "a1_") == ["a1_in1k"]
    assert completed("see", "maps", "--checkpoint", "fashion_m") == ["fashion_mnist"]
    assert completed("list", "--family", "len") == ["lenet"]
    assert completed("export-onnx", "resnet50.a1_") == ["resnet50.a1_in1k"]
    assert "show" in completed("sh")


def test_a_shell_asks_the_program() -> None:
    environment = os.environ | {
        "_CNNZOO_COMPLETE": "bash_complete",
        "COMP_WORDS": "cnnzoo show resnet1",
        "COMP_CWORD": "2",
    }
    script = "from cnnzoo.cli import main; main(prog_name='cnnzoo')"
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert "plain,resnet18" in done.stdout


# While one waits


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Two hundred images of one class."""
    folder = tmp_path / "many" / "boots"
    folder.mkdir(parents=True)
    samples("fashion_mnist")[9].image.save(folder / "0.png")
    for i in range(1, 200):
        shutil.copy(folder / "0.png", folder / f"{i}.png")
    return tmp_path / "many"


def test_features_say_how_far_they_are(many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnzoo.support.progress.LINE", 0.0)
    text = run("features", many, "--model", "lenet5", "--out", tmp_path / "t.safetensors", "--workers", "0").stdout
    lines = [line for line in text.splitlines() if line.startswith("images: ")]
    assert len(lines) == 4  # batches of 64
    assert lines[0].startswith("images: 64 of 200, ")
    assert re.search(r"images/s, about \d+ seconds? left$", lines[0])
    assert lines[-1].startswith("images: 200 of 200, ")


def test_training_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnzoo.support.progress.LINE", 0.0)
    write_idx_folder(tmp_path, repeat=4)
    text = run(
        *("train", "fashion_textbook", "--data", tmp_path, "--epochs", "1", "--set", "batch_size=10"),
        *("--out", tmp_path / "out"),
    ).stdout
    assert re.search(r"epoch 1 of 1: 1 of 8, loss [\d.]+, accuracy [\d.]+, about \d+ seconds? left\n", text)
    assert "test images: " in text
    assert "epoch   1: loss" in text
    text = run("eval", "fashion_textbook", "--data", tmp_path, "--weights", tmp_path / "out", "--device", "cpu").stdout
    assert re.match(r"test images: \d+ of \d+, about \d+ seconds? left\n", text)


def test_lines_come_every_few_seconds_only(many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnzoo.support.progress.LINE", 3600.0)
    text = run("features", many, "--model", "lenet5", "--out", tmp_path / "t.safetensors", "--workers", "0").stdout
    assert text.splitlines() == [f"{tmp_path / 't.safetensors'}: 200 images x 84 features, 1 classes"]


def test_ctrl_c_loses_a_batch_at_most(many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cnnzoo.support.progress import Display

    arguments = ("features", many, "--model", "lenet5", "--workers", "0", "--batch-size", "16", "--out")
    assert run(*arguments, tmp_path / "whole.safetensors").exit_code == 0

    def interrupted(display: Display, done: int, *rest: object) -> None:
        if done == 6 * 16:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Display, "step", interrupted)
        result = run(*arguments, tmp_path / "t.safetensors")
    assert result.exit_code == 130
    assert f"Stopped. What is done is in {tmp_path / 't.safetensors'}.parts; the same command goes on" in result.stderr

    steps = []
    with monkeypatch.context() as patch:
        patch.setattr(Display, "step", lambda display, done, *rest: steps.append(done))
        assert run(*arguments, tmp_path / "t.safetensors").exit_code == 0
    assert steps[-1] == 200 - 6 * 16
    assert (tmp_path / "t.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert not (tmp_path / "t.safetensors.parts").exists()


def test_ctrl_c_of_a_real_terminal(many: Path, tmp_path: Path) -> None:
    out = tmp_path / "t.safetensors"
    arguments = ("features", str(many), "--model", "lenet5", "--batch-size", "1", "--out", str(out), "--device", "cpu")
    with on_a_terminal(*arguments, CNNZOO_TEST="1") as (process, rest):
        while not (tmp_path / "t.safetensors.parts").exists() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        text = rest()
        process.wait()
    if process.returncode == 0:
        pytest.skip("it was done before it could be stopped")
    assert process.returncode == 130
    assert "the same command goes on from there" in text
    assert "Traceback" not in text


def test_ctrl_c_of_a_training_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    write_idx_folder(tmp_path, repeat=4)
    monkeypatch.setattr("cnnzoo.training.loop.Session.run_epoch", interrupted)
    result = run("train", "fashion_textbook", "--data", tmp_path, "--out", tmp_path / "out", "--set", "batch_size=8")
    assert result.exit_code == 130
    assert f"The epochs that are done are in {tmp_path / 'out'}; the same command goes on from there" in result.stderr
