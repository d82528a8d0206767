"""The files of the two pages, as any web server may serve them."""

import json
from collections.abc import Iterator
from importlib.resources import files

from cnnzoo.play.manifest import described, shown

PAGES = {"play.html": "play/index.html", "convolution.html": "convolution/index.html"}
IMAGES = (".png", ".webp")


def pages() -> dict[str, bytes]:
    """Every file by its path, such as `play/index.html`; paths in the files are relative.

    Besides the sources these are the bundled weights that the pages run, sample images, and `play/manifest.json`,
    which describes both.
    """
    return dict(_pages())


def _pages() -> Iterator[tuple[str, bytes]]:
    package = files("cnnzoo")
    for source in package.joinpath("play/web").iterdir():
        yield PAGES.get(source.name, f"play/{source.name}"), source.read_bytes()
    networks = shown()
    for _, checkpoint in networks:
        weights = package.joinpath(f"checkpoints/bundled/{checkpoint.file}")
        yield f"play/weights/{checkpoint.file}", weights.read_bytes()
    sets = dict.fromkeys(str(checkpoint.class_set or "captchas") for _, checkpoint in networks)
    images = {data: dict(_images(str(data))) for data in sets}
    for data, found in images.items():
        for name, content in found.items():
            yield f"play/samples/{data}/{name}", content
    manifest = {
        "networks": [described(name, checkpoint) for name, checkpoint in networks],
        "samples": {data: [_sample(data, name) for name in sorted(found)] for data, found in images.items()},
    }
    yield "play/manifest.json", json.dumps(manifest, ensure_ascii=False, separators=(",", ":")).encode()


def _images(data: str) -> Iterator[tuple[str, bytes]]:
    """The sample images of a data set by file name."""
    folder = files("cnnzoo").joinpath("play/captchas" if data == "captchas" else f"data/samples/{data}")
    if folder.is_dir():
        yield from ((file.name, file.read_bytes()) for file in folder.iterdir() if file.name.endswith(IMAGES))


def _sample(data: str, name: str) -> dict[str, str]:
    """An image, called `NUMBER-LABEL.png` or the like, and its class: the text of a CAPTCHA, or else the number."""
    number, _, text = name.rpartition(".")[0].partition("-")
    return {"file": f"samples/{data}/{name}", "label": text if data == "captchas" else number}
