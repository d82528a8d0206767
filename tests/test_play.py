"""The pages `play` and `convolution`: their files, their server, and what they answer in a real browser."""

import json
import re
import threading
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from browser import Browser, chromium
from click.testing import CliRunner
from PIL import Image
from torch import nn

import cnnzoo
from cnnzoo.cli import main
from cnnzoo.data.captchas import Captcha
from cnnzoo.data.pictures import open_picture, samples
from cnnzoo.play import pages
from cnnzoo.play.manifest import DETAILS, described, shown
from cnnzoo.play.server import HOST, listening

WEB = Path(cnnzoo.__file__).parent / "play/web"
FILES = pages()
MANIFEST = json.loads(FILES["play/manifest.json"])
LENETS = [one for one in MANIFEST["networks"] if one["name"] == "lenet5"]
READERS = [one for one in MANIFEST["networks"] if one["name"] == "captcha_cnn_small"]


@pytest.fixture(scope="module")
def server() -> Iterator[ThreadingHTTPServer]:
    with listening(0) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def address(server: ThreadingHTTPServer) -> str:
    return f"http://{HOST}:{server.server_port}"


@pytest.fixture(scope="module")
def one_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture
def browser(one_browser: Browser) -> Iterator[Browser]:
    """A page may say nothing on the console, and ask nobody but the server for anything."""
    one_browser.screen(1360)
    one_browser.complaints(), one_browser.hosts()
    yield one_browser
    assert one_browser.complaints() == []
    assert one_browser.hosts() <= {HOST}


# Files and server


def test_the_play_page_is_small() -> None:
    assert sum(map(len, FILES.values())) < 3_000_000


def test_bundled_networks_are_all_described() -> None:
    for name, checkpoint in shown():
        (found,) = (one for one in MANIFEST["networks"] if one["id"] == f"{name}.{checkpoint.tag}")
        model = cnnzoo.load_pretrained(cnnzoo.spec(name).name, checkpoint=checkpoint.tag, **checkpoint.options)
        assert found["parameters"] == sum(layer["params"] for layer in found["layers"])
        assert found["parameters"] == sum(parameter.numel() for parameter in model.parameters())
        assert [layer["name"] for layer in found["layers"]] == [child for child, _ in model.named_children()]
        assert f"play/{found['file']}" in FILES
    assert {one["classic"] for one in LENETS} == {False, True}
    assert READERS


@pytest.mark.parametrize(
    "layer",
    [nn.GELU(), nn.Conv2d(2, 2, 3, groups=2), nn.MaxPool2d(3, 2, padding=1), nn.AvgPool2d(2, ceil_mode=True)],
    ids=str,
)
def test_a_layer_that_the_page_does_not_run_is_an_error(layer: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    model = cnnzoo.create("lenet5", device="meta")
    model.tanh1 = layer
    monkeypatch.setattr("cnnzoo.play.manifest.create", lambda *args, **options: model)
    with pytest.raises(cnnzoo.OptionError, match=r"play: layer tanh1 of lenet5 is .*, which the page does not run"):
        described("lenet5", shown()[0][1])


def test_sample_captchas_are_those_of_the_test_set() -> None:
    sequence = Captcha()
    labels = [one["label"] for one in MANIFEST["samples"]["captchas"]]
    assert labels == [sequence.draw("test", number)[0] for number in range(12)]
    for one in MANIFEST["samples"]["captchas"]:
        assert open_picture(Path(cnnzoo.__file__).parent / "play/captchas" / Path(one["file"]).name).size == (180, 100)


def test_words_are_the_same_in_both_languages() -> None:
    words = json.loads(re.search(r"WORDS = (.*);\n", (WEB / "words.js").read_text(), re.DOTALL)[1])
    assert list(words["en"]) == list(words["zh"])
    for key, english in words["en"].items():
        chinese = words["zh"][key]
        assert chinese
        assert english
        assert sorted(re.findall(r"\{\w+\}", english)) == sorted(re.findall(r"\{\w+\}", chinese)), key
    sources = "".join(path.read_text() for path in WEB.iterdir() if path.suffix in (".js", ".html"))
    asked = set(re.findall(r"""(?:\bt\(\s*|data-t="|data-label="|data-title=")["']?([a-z][\w.]*)["']""", sources))
    assert asked - set(words["en"]) == set()


def test_pages_load_nothing_from_outside() -> None:
    for path, content in FILES.items():
        if path.endswith((".html", ".js", ".css")):
            outside = re.findall(r"(?:https?:)?//[a-z][\w.-]*\.[a-z]{2,}", content.decode())
            assert outside == [], path


def answer(address: str, method: str = "GET") -> tuple[int, Any, bytes]:
    request = urllib.request.Request(address, method=method)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, b""


def test_the_server_hands_out_files_and_nothing_else(address: str) -> None:
    for path, content in FILES.items():
        assert answer(f"{address}/{path}")[2] == content
    status, headers, content = answer(f"{address}/")
    assert (status, content) == (200, FILES["play/index.html"])
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer(f"{address}/convolution")[2] == FILES["convolution/index.html"]
    assert answer(f"{address}/play/engine.js")[1]["Content-Type"] == "text/javascript; charset=utf-8"
    for path in ("/play/none.js", "/play/../../pyproject.toml", "/play/%2e%2e/README.md", "//etc/passwd"):
        assert answer(f"{address}{path}")[0] == 404
    status, headers, content = answer(f"{address}/play/", "HEAD")
    assert (status, content) == (200, b"")
    assert int(headers["Content-Length"]) == len(FILES["play/index.html"])


def test_a_port_in_use_is_one_line(server: ThreadingHTTPServer) -> None:
    result = CliRunner().invoke(main, ["play", "--no-browser", "--port", str(server.server_port)])
    assert result.exit_code == 2
    line = f"Error: play: cannot listen on port {server.server_port} of {HOST}: it is in use; choose another with --port"
    assert result.stderr.startswith(line)
    assert result.stderr.count("\n") == 1


def served(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """What `cnnzoo play` prints when it is interrupted at once."""

    def interrupt(self: ThreadingHTTPServer) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ThreadingHTTPServer, "serve_forever", interrupt)
    result = CliRunner().invoke(main, ["play", "--port", "0", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_play_opens_the_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    text = served(monkeypatch)
    assert opened == [text.split()[0]]
    assert re.match(r"http://127\.0\.0\.1:\d+/play/ ", text)
    served(monkeypatch, "--no-browser")
    assert len(opened) == 1


@pytest.mark.parametrize("fails", ["answers no", "raises"])
def test_no_browser_is_one_line(fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(address: str) -> bool:
        if fails == "raises":
            raise webbrowser.Error("no runnable browser")
        return False

    monkeypatch.setattr(webbrowser, "open", refuse)
    _, second, *_ = served(monkeypatch).splitlines()
    assert re.match(r"no browser could be opened here; open http://127\.0\.0\.1:\d+/play/ in one", second)


def test_details_name_only_layers_that_the_page_runs() -> None:
    engine = (WEB / "engine.js").read_text()
    for layer in DETAILS:
        assert re.search(rf"\b{layer.__name__}\b", engine), layer


# In the browser


def scores(browser: Browser, selector: str) -> torch.Tensor:
    return torch.tensor(json.loads(browser.find(selector).get_attribute("data-scores")), dtype=torch.float64)


def choose(browser: Browser, path: Path) -> None:
    """Choose an image file, as a user does, and wait until the page has shown its answer."""
    before = browser.run("return document.body.dataset.shown")
    browser.find("#choose").send_keys(str(path))
    browser.wait(f"return document.body.dataset.shown !== {json.dumps(before)}")


def grey_images() -> list[Image.Image]:
    """Twenty images of 28x28: the samples, and the samples on their heads."""
    found = [sample.picture.convert("L") for sample in samples()]
    return found + [image.transpose(Image.Transpose.FLIP_TOP_BOTTOM) for image in found]


@pytest.mark.parametrize("data", sorted({one["data"] for one in LENETS}))
def test_lenets_answer_as_torch_does(data: str, browser: Browser, address: str, tmp_path: Path) -> None:
    known = [one for one in LENETS if one["data"] == data]
    models = {one["id"]: cnnzoo.load_pretrained(cnnzoo.ModelName(one["id"]), classic=one["classic"]) if one["classic"] else cnnzoo.load_pretrained(cnnzoo.ModelName(one["id"])) for one in known}
    browser.open(f"{address}/play/?lang=en#{data}")
    for number, image in enumerate(grey_images()):
        image.save(tmp_path / f"{number}.png")
        choose(browser, tmp_path / f"{number}.png")
        for name, model in models.items():
            with torch.inference_mode():
                expected = model(model.checkpoint.transforms()(image).unsqueeze(0))[0]
            found = scores(browser, f'.answer[data-network="{name}"]')
            assert (found - expected).abs().max() < 1e-4


def test_captchas_are_read_as_torch_reads_them(browser: Browser, address: str, tmp_path: Path) -> None:
    model = cnnzoo.load_pretrained("captcha_cnn_small")
    browser.open(f"{address}/play/?lang=en#captchas")
    for number in range(20):
        text, image = Captcha().draw("train", number)
        image.save(tmp_path / f"{number}.png")
        choose(browser, tmp_path / f"{number}.png")
        with torch.inference_mode():
            expected = model(model.checkpoint.transforms()(image).unsqueeze(0))
        assert (scores(browser, ".captcha") - expected[0]).abs().max() < 1e-4
        assert browser.find(".captcha").get_attribute("data-text") == model.decode(expected)[0]
