"""The pages `play` and `convolution`: their files, their server, and what they answer in a real browser."""

import json
import math
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
from browser import Browser, browser_or_skip
from click.testing import CliRunner
from PIL import Image
from torch import nn
from torch.nn import functional as F

import cnnzoo
from cnnzoo.cli import main
from cnnzoo.data.captcha import Captcha
from cnnzoo.data.image_files import open_image, samples
from cnnzoo.play import pages
from cnnzoo.play.manifest import DETAILS, described, shown
from cnnzoo.play.server import HOST, listening

WEB = Path(cnnzoo.__file__).parent / "play/web"
FILES = pages()
MANIFEST = json.loads(FILES["play/manifest.json"])
LENETS = [one for one in MANIFEST["networks"] if one["name"] == "lenet5"]
BOTH = [one for one in LENETS if sum(other["data"] == one["data"] for other in LENETS) == 2]
"""The LeNet-5s of 1998 and of today that stand on the page together."""
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
    with browser_or_skip(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture
def browser(one_browser: Browser) -> Iterator[Browser]:
    """A page may say nothing on the console, and ask nobody but the server for anything."""
    one_browser.screen(1360)
    one_browser.complaints()
    one_browser.hosts()
    yield one_browser
    assert one_browser.complaints() == []
    assert one_browser.hosts() <= {HOST}


# Files and server


def test_the_play_page_is_small() -> None:
    assert sum(map(len, FILES.values())) < 3_000_000


def test_bundled_networks_are_all_described() -> None:
    for name, checkpoint in shown():
        (found,) = (one for one in MANIFEST["networks"] if one["id"] == f"{name}.{checkpoint.tag}")
        model = cnnzoo.load_pretrained(cnnzoo.ModelName(found["id"]))
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
    with pytest.raises(cnnzoo.OptionError, match=r"layer tanh1 of lenet5 is .*, which the page does not run"):
        described("lenet5", shown()[0][1])


def test_sample_captchas_are_those_of_the_test_set() -> None:
    sequence = Captcha()
    labels = [one["label"] for one in MANIFEST["samples"]["captchas"]]
    assert labels == [sequence.draw("test", number)[0] for number in range(12)]
    for one in MANIFEST["samples"]["captchas"]:
        assert open_image(Path(cnnzoo.__file__).parent / "play/captchas" / Path(one["file"]).name).size == (180, 100)


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
            assert set(outside) <= {"http://www.w3.org"}, path  # the names of SVG and MathML, which nobody fetches


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
    line = f"Error: cannot listen on port {server.server_port} of {HOST}: it is in use; choose another with --port"
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
    found = [sample.image.convert("L") for sample in samples()]
    return found + [image.transpose(Image.Transpose.FLIP_TOP_BOTTOM) for image in found]


@pytest.mark.parametrize("data", sorted({one["data"] for one in LENETS}))
def test_lenets_answer_as_torch_does(data: str, browser: Browser, address: str, tmp_path: Path) -> None:
    known = [one for one in LENETS if one["data"] == data]
    # In double precision: torch's own rounding in single precision moves distances over 200 by 1.3e-4.
    models = {one["id"]: cnnzoo.load_pretrained(cnnzoo.ModelName(one["id"]), dtype=torch.float64) for one in known}
    browser.open(f"{address}/play/?lang=en#{data}")
    for number, image in enumerate(grey_images()):
        image.save(tmp_path / f"{number}.png")
        choose(browser, tmp_path / f"{number}.png")
        for name, model in models.items():
            with torch.inference_mode():
                expected = model(model.checkpoint.transforms()(image).unsqueeze(0).double())[0]
            found = scores(browser, f'.answer[data-network="{name}"]')
            assert (found - expected).abs().max() < 1e-4


def test_captchas_are_read_as_torch_reads_them(browser: Browser, address: str, tmp_path: Path) -> None:
    model = cnnzoo.load_pretrained("captcha_cnn_small")
    browser.open(f"{address}/play/?lang=en#captchas")
    for number in range(20):
        _, image = Captcha().draw("train", number)
        image.save(tmp_path / f"{number}.png")
        choose(browser, tmp_path / f"{number}.png")
        with torch.inference_mode():
            expected = model(model.checkpoint.transforms()(image).unsqueeze(0))
        assert (scores(browser, ".captcha") - expected[0]).abs().max() < 1e-4
        assert browser.find(".captcha").get_attribute("data-text") == model.decode(expected)[0]


@pytest.mark.parametrize("classic", [True, False])
def test_a_unit_shows_its_value_and_its_field(classic: bool, browser: Browser, address: str, tmp_path: Path) -> None:
    spec = next(one for one in BOTH if one["classic"] is classic)
    model = cnnzoo.load_pretrained(cnnzoo.ModelName(spec["id"]))
    names = [name for name, _ in model.named_children()]
    image = grey_images()[9]
    image.save(tmp_path / "image.png")
    batch = model.checkpoint.transforms()(image).unsqueeze(0)
    browser.open(f"{address}/play/?lang=en#{spec['data']}")
    choose(browser, tmp_path / "image.png")
    browser.find(f'[data-variant="{0 if classic else 1}"]').click()
    for layer, unit in (
        ("c1", (2, 20, 7)),
        ("s2", (5, 3, 9)),
        ("c3", (11, 4, 8)),
        ("s4", (15, 1, 4)),
        ("c5", (77, 0, 0)),
        ("f6", (40, 0, 0)),
    ):
        pick(browser, spec["id"], layer, *unit)
        after = next((name for name in names[names.index(layer) + 1 :][:1] if name.startswith("tanh")), layer)
        with torch.inference_mode():
            maps = cnnzoo.truncate(model, until=after)(batch)[0]
        expected = maps[unit] if maps.ndim == 3 else maps[unit[0]]
        assert float(browser.find("#unit").get_attribute("data-value")) == pytest.approx(float(expected), abs=1e-5)
        text = browser.find("#unit").text
        if layer != "f6":
            height, width = cnnzoo.receptive_field(model, layer).size
            assert f"It sees {height}×{width} pixels" in text
        if layer == "c3":
            kernels = len(model.c3.table[11]) if classic else 6
            assert f"Input × kernel, {kernels} in all" in text
            assert len(browser.all("#unit .products td")) == 25


def pick(browser: Browser, network: str, layer: str, unit: int, y: int, x: int) -> None:
    """Click the middle of a unit."""
    canvas = browser.find(f'.stack[data-network="{network}"] [data-layer="{layer}"] canvas')
    plan = json.loads(canvas.get_attribute("data-plan"))
    row, column = divmod(unit, plan["columns"])
    right = column * (plan["width"] * plan["sx"] + plan["gap"]) + (x + 0.5) * plan["sx"]
    down = row * (plan["height"] * plan["sy"] + plan["gap"]) + (y + 0.5) * plan["sy"]
    browser.click(canvas, right, down)


def test_shown_products_add_up(browser: Browser, address: str) -> None:
    browser.open(f"{address}/play/?lang=en#fashion_mnist")
    steps = browser.texts("#unit .steps dd")
    total, bias, inside, value = (float(re.sub(r"[^\d.-]", "", text)) for text in steps)
    sums = [float(text) for text in browser.texts("#unit .term output")]
    assert sum(sums) == pytest.approx(total, abs=3e-3)
    assert total + bias == pytest.approx(inside, abs=2e-4)
    assert 1.7159 * math.tanh(inside * 2 / 3) == pytest.approx(value, abs=2e-4)
    products = [float(text) for text in browser.texts("#unit .products b")]
    assert sum(products) == pytest.approx(sums[0], abs=25 * 0.005)


def test_codes_and_distances_of_1998(browser: Browser, address: str) -> None:
    spec = next(one for one in LENETS if one["classic"] and one["data"] == "fashion_mnist")
    browser.open(f"{address}/play/?lang=en#{spec['data']}")
    rows = f'.stack[data-network="{spec["id"]}"] .code'
    expected = [-score for score in scores(browser, f'.answer[data-network="{spec["id"]}"]').tolist()]
    assert [float(text) for text in browser.texts(f"{rows} .distance")] == pytest.approx(expected, abs=0.51)
    assert len(browser.all(f"{rows} canvas")) == 10
    browser.all(rows)[3].click()
    assert float(browser.find("#unit").get_attribute("data-value")) == pytest.approx(-expected[3], abs=1e-3)
    assert "Distance to the code of the class" in browser.find("#unit").text


def cleared(browser: Browser) -> str:
    """The scores of an empty pad."""
    before = browser.run("return document.body.dataset.shown")
    browser.find("#clear").click()
    browser.wait(f"return Number(document.body.dataset.shown) > {before} && !document.querySelector('.hint').hidden")
    return browser.find(".answer").get_attribute("data-scores")


def drawn(browser: Browser, *strokes: list[tuple[float, float]], touch: bool = False) -> None:
    """Draw on the pad, in shares of its side, with the mouse or a finger."""
    browser.run("arguments[0].scrollIntoView({ block: 'center' })", browser.find(".ink"))
    left, top, side = browser.run(
        "const box = document.querySelector('.ink').getBoundingClientRect(); return [box.left, box.top, box.width]"
    )
    for stroke in strokes:
        points = [(left + x * side, top + y * side) for x, y in stroke]
        for number, (x, y) in enumerate([*points, points[-1]]):
            last = number == len(points)
            if touch:
                kind = "touchEnd" if last else "touchMove" if number else "touchStart"
                browser.cdp("Input.dispatchTouchEvent", type=kind, touchPoints=[] if last else [{"x": x, "y": y}])
            else:
                kind = "mouseReleased" if last else "mouseMoved" if number else "mousePressed"
                browser.cdp("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)


@pytest.mark.parametrize("touch", [False, True], ids=["mouse", "touch"])
def test_strokes_are_answered(touch: bool, browser: Browser, address: str) -> None:
    browser.screen(390 if touch else 1360, 844, mobile=touch)
    browser.open(f"{address}/play/?lang=en#{LENETS[0]['data']}")
    blank = cleared(browser)
    line = [(0.3 + 0.02 * i, 0.2 + 0.06 * i) for i in range(10)]
    drawn(browser, line, touch=touch)
    browser.wait(f"return document.querySelector('.answer').dataset.scores !== {json.dumps(blank)}")
    first = browser.find(".answer").get_attribute("data-scores")
    drawn(browser, [(x, 1 - y) for x, y in line], touch=touch)
    browser.wait(f"return document.querySelector('.answer').dataset.scores !== {json.dumps(first)}")
    assert float(browser.find("#time").get_attribute("data-ms")) > 0
    browser.find("#clear").click()
    browser.wait(f"return document.querySelector('.answer').dataset.scores === {json.dumps(blank)}")


def test_the_keyboard_draws_and_walks(browser: Browser, address: str) -> None:
    from selenium.webdriver import Keys

    browser.open(f"{address}/play/?lang=en#{LENETS[0]['data']}")
    blank = cleared(browser)
    browser.run("document.querySelector('.ink').focus()")
    browser.press(" ", Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_RIGHT, " ", Keys.ARROW_RIGHT)
    browser.wait(f"return document.querySelector('.answer').dataset.scores !== {json.dumps(blank)}")
    browser.press(Keys.DELETE)
    browser.wait(f"return document.querySelector('.answer').dataset.scores === {json.dumps(blank)}")

    browser.run("document.querySelector('[data-layer=c3] canvas').focus()")
    browser.press(Keys.ENTER)
    assert browser.find("#unit h2").text.startswith("C3")
    for key, place in ((Keys.HOME, None), (Keys.ARROW_RIGHT, 1), (Keys.ARROW_LEFT, -1), (Keys.ARROW_DOWN, 10)):
        before = browser.texts("#unit h2 small")
        browser.press(key)
        assert (browser.texts("#unit h2 small") != before) is (place is not None)
    browser.press(Keys.ESCAPE)
    assert "Click a unit" in browser.find("#unit").text


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(
    "page", ["play/?lang=en", "play/?lang=zh#captchas", "convolution/?lang=en", "convolution/?lang=zh"]
)
def test_pages_fit_a_phone(page: str, dark: bool, browser: Browser, address: str) -> None:
    browser.screen(390, 844, dark=dark, mobile=True)
    browser.open(f"{address}/{page}")
    assert browser.run("return innerWidth") == 390
    assert browser.run("return document.documentElement.scrollWidth") <= 390
    paper = browser.run("return getComputedStyle(document.body).backgroundColor")
    brightness = sum(map(int, re.findall(r"\d+", paper))) / 3
    assert (brightness < 80) is dark
    small = browser.run(
        "return [...document.querySelectorAll('button, .button, select')].filter((one) => one.offsetParent"
        " && !one.matches('.code, .sample, .hand button') && one.getBoundingClientRect().height < 32)"
        ".map((one) => one.outerHTML)"
    )
    assert small == []


@pytest.mark.parametrize("page", ["play/", "play/#captchas", "convolution/"])
def test_the_language_can_be_changed(page: str, browser: Browser, address: str) -> None:
    path, _, view = page.partition("#")
    browser.open(f"{address}/{path}?lang=en#{view}")
    assert browser.run("return document.documentElement.lang") == "en"
    english = browser.find("main").text
    browser.find("#language").click()
    browser.wait("return document.documentElement.lang === 'zh-Hans'")
    browser.wait("return /[\u4e00-\u9fff]/.test(document.querySelector('h1').textContent)")
    chinese = browser.find("main").text
    assert chinese != english
    left = re.findall(
        r"[A-Za-z]{4,}",
        re.sub(
            r"LeNet|CAPTCHA|captcha|nn\.\S+|cnnzoo\S*|\w+=\S+|conv\d|pool\d|columns|Delete|Python|torch|tanh",
            "",
            chinese,
        ),
    )
    assert left == []
    browser.find("#language").click()
    browser.wait("return document.documentElement.lang === 'en'")


def module(browser: Browser, name: str, script: str, *arguments: Any) -> Any:
    """What a script returns that is given a module of the page as `it`."""
    return browser.driver.execute_async_script(
        f"const done = arguments[arguments.length - 1]; import('../play/{name}').then((it) => done(({script})(it, ...arguments)))",
        *arguments,
    )


def test_drawings_are_framed_as_mnist_was_made(browser: Browser, address: str) -> None:
    browser.open(f"{address}/play/?lang=en")
    for height, width in ((120, 40), (60, 200), (9, 9)):
        ink = torch.zeros(280, 280)
        ink[30 : 30 + height, 50 : 50 + width] = 255
        ink[30 : 30 + height // 3, 50 : 50 + width // 2] = 0
        bytes_ = ink.flatten().int().tolist()
        found = torch.tensor(
            module(browser, "images.js", "(it, ink) => [...it.framed(Uint8Array.from(ink), 280, 280, 'mnist')]", bytes_)
        ).view(28, 28)
        rows, columns = found.amax(1).nonzero(), found.amax(0).nonzero()
        assert max(int(rows.max() - rows.min()), int(columns.max() - columns.min())) + 1 == 20
        at = torch.arange(28) + 0.5
        for axis in (0, 1):
            middle = (found.sum(1 - axis) * at).sum() / found.sum()
            assert abs(float(middle) - 14) <= 0.5 + 1e-6
    empty = module(browser, "images.js", "(it) => [...it.framed(new Uint8Array(78400), 280, 280, 'mnist')]")
    assert set(empty) == {0}


def test_dark_on_bright_is_inverted(browser: Browser, address: str) -> None:
    browser.open(f"{address}/play/?lang=en")
    ink = torch.zeros(90, 70, dtype=torch.uint8)
    ink[20:60, 30:36] = 255
    ink[20:26, 15:36] = 255
    frames = [
        module(
            browser,
            "images.js",
            "(it, grey) => [...it.greyImage({ rgba: grey.flatMap((g) => [g, g, g, 255]), height: 90, width: 70 }, 'mnist')]",
            pixels.flatten().tolist(),
        )
        for pixels in (ink, 255 - ink, 200 - ink // 2)
    ]
    assert sum(frames[0]) > 0
    assert frames[0] == frames[1] == frames[2]


@pytest.mark.parametrize(("size", "new"), [((37, 53), (20, 28)), ((28, 28), (41, 30)), ((100, 180), (50, 60))])
def test_images_are_resized_as_pil_does(
    size: tuple[int, int], new: tuple[int, int], browser: Browser, address: str
) -> None:
    browser.open(f"{address}/play/?lang=en")
    pixels = torch.randint(0, 256, size, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    expected = torch.tensor(
        list(Image.fromarray(pixels.numpy()).resize(new[::-1], Image.Resampling.BILINEAR).tobytes())
    )
    found = module(
        browser, "images.js", "(it, p, a, b) => [...it.resize(p, [...a, 1], b)]", pixels.flatten().tolist(), size, new
    )
    assert (torch.tensor(found) - expected).abs().max() <= 1


def test_a_file_that_is_no_image_is_said(browser: Browser, address: str, tmp_path: Path) -> None:
    (tmp_path / "no.png").write_bytes(b"no image")
    browser.open(f"{address}/play/?lang=en")
    browser.find("#choose").send_keys(str(tmp_path / "no.png"))
    browser.wait("return !document.getElementById('complaint').hidden")
    assert "choose a PNG, JPEG or WebP file" in browser.find("#complaint").text


# The page of windows


def settings_table() -> list[tuple[dict[str, int | bool | str], int]]:
    """Settings and the size of their output, as Python has it."""
    found = []
    for op in ("conv", "max", "average"):
        for n in (1, 2, 7, 12, 16):
            for k in (1, 2, 3, 5, 7):
                for s in (1, 2, 3):
                    for p in (0, 1, 3):
                        d = 1 if op == "average" else 1 + (n + k + s) % 3
                        ceil = op != "conv" and (n + k + p) % 2 == 0
                        if op != "conv" and p > k // 2:
                            continue
                        try:
                            size = cnnzoo.output_size(n, k, stride=s, padding=p, dilation=d, ceil_mode=ceil)
                        except cnnzoo.ShapeError:
                            size = 0
                        found.append(({"op": op, "n": n, "k": k, "s": s, "p": p, "d": d, "ceil": ceil}, size))
    return found


SET = """
const set = (id, value) => {
  const slider = document.getElementById(id);
  slider.value = value;
  slider.dispatchEvent(new Event('input'));
};
const use = ({ op, n, k, s, p, d, ceil }) => {
  document.querySelector(`#operation [data-value=${op}]`).click();
  for (const [key, value] of [['n', n], ['k', k], ['s', s], ['d', d], ['p', p]]) set(`slider-${key}`, value);
  const box = document.getElementById('ceil');
  if (box.checked !== ceil) box.click();
};
"""


def test_sizes_agree_with_python(browser: Browser, address: str) -> None:
    table = settings_table()
    assert len(table) > 300
    assert sum(size == 0 for _, size in table) > 20
    browser.open(f"{address}/convolution/?lang=en")
    found = browser.run(
        SET
        + """
        return arguments[0].map((settings) => {
          use(settings);
          const shown = document.getElementById('output-size');
          const result = document.querySelector('#formula .result').textContent.replace('−', '-').replace('=', '');
          const remarks = document.getElementById('remarks').textContent;
          return [Number(shown.dataset.value), document.querySelectorAll('#output .cell').length, Number(result), remarks];
        });
        """,
        [settings for settings, _ in table],
    )
    for (settings, size), (stated, cells, formula, remarks) in zip(table, found, strict=True):
        assert (stated, cells) == (size, size**2), settings
        dropped = re.search(r"dropped: (\d+) − 1 = (\d+)", remarks)
        assert (int(dropped[2]) if dropped else max(formula, 0)) == size, settings
        assert ("output is empty" in remarks) is (size == 0), settings
        if least := re.search(r"smallest input that works is (\d+)", remarks):
            options = {
                "stride": settings["s"],
                "padding": settings["p"],
                "dilation": settings["d"],
                "ceil_mode": settings["ceil"],
            }
            assert cnnzoo.output_size(int(least[1]), settings["k"], **options) >= 1
            if int(least[1]) > 1:
                with pytest.raises(cnnzoo.ShapeError):
                    cnnzoo.output_size(int(least[1]) - 1, settings["k"], **options)
    assert any("dropped" in remarks for *_, remarks in found)


def test_every_window_computes_what_torch_does(browser: Browser, address: str) -> None:
    """Values of all outputs, padding and ceil mode among them, of settings that torch takes."""
    browser.open(f"{address}/convolution/?lang=en")
    tried = [(settings, size) for settings, size in settings_table()[::7] if size]
    values = torch.randint(0, 10, (16, 16), generator=torch.Generator().manual_seed(0))
    kernel = torch.randint(-3, 4, (7, 7), generator=torch.Generator().manual_seed(1))
    for settings, size in tried:
        n, k, s, p, d, ceil = (settings[key] for key in ("n", "k", "s", "p", "d", "ceil"))
        image, weight = values[:n, :n].double(), kernel[:k, :k].double()
        found = module(
            browser,
            "arithmetic.js",
            "(it, settings, input, kernel, size) => Array.from({ length: size * size }, (_, i) =>"
            " it.answer(settings, input, kernel, Math.floor(i / size), i % size).value)",
            settings,
            image.flatten().tolist(),
            weight.flatten().tolist(),
            size,
        )
        batch = image[None, None]
        if settings["op"] == "conv":
            expected = F.conv2d(batch, weight[None, None], stride=s, padding=p, dilation=d)
        elif settings["op"] == "max":
            expected = F.max_pool2d(batch, k, s, p, d, ceil_mode=ceil)
        else:
            expected = F.avg_pool2d(batch, k, s, p, ceil_mode=ceil)
        answers = torch.tensor([-math.inf if value is None else value for value in found], dtype=torch.float64)
        assert torch.allclose(answers.view(size, size), expected[0, 0], rtol=0, atol=1e-9), settings


def test_settings_that_torch_refuses_cannot_be_made(browser: Browser, address: str) -> None:
    browser.open(f"{address}/convolution/?lang=en")
    use = SET + "use(arguments[0]); return document.getElementById('code').textContent"
    text = browser.run(use, {"op": "max", "n": 9, "k": 3, "s": 2, "p": 5, "d": 1, "ceil": True})
    assert "nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True)" in text
    text = browser.run(use, {"op": "average", "n": 9, "k": 3, "s": 2, "p": 0, "d": 4, "ceil": False})
    assert "nn.AvgPool2d(3, stride=2)" in text
    assert browser.find("#slider-d").get_attribute("disabled")
    browser.run("document.querySelector('#operation [data-value=conv]').click()")
    assert browser.find("#ceil").get_attribute("disabled")


def test_the_window_walks_by_keys_and_by_itself(browser: Browser, address: str) -> None:
    from selenium.webdriver import Keys

    browser.open(f"{address}/convolution/?lang=en#op=conv&n=6&k=3&s=1&p=0&d=1")
    first = browser.find("#place").text
    browser.wait(f"return document.getElementById('place').textContent !== {json.dumps(first)}")  # it plays
    browser.find("#toggle").click()
    browser.run("document.getElementById('walk').focus()")
    before = int(re.search(r"Window (\d+) of 16", browser.find("#place").text)[1])
    browser.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    assert int(re.search(r"Window (\d+) of 16", browser.find("#place").text)[1]) == before % 16 + 1
    assert len(browser.all("#input .tap")) == 9
    total = browser.texts("#sum")[0]
    terms, value = total.split(" = ")
    assert eval(terms.replace("·", "*")) == int(value)
    assert browser.texts("#output .now") == [value]
