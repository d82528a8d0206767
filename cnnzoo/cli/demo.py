"""The demonstration: the LeNet-5 of 1998 reads ten handwritten digits, and shows what it sees."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cnnzoo.classification import classify
from cnnzoo.cli.output import print_table, print_view
from cnnzoo.cnn import CNN
from cnnzoo.data.image_files import captcha_sample, drawn, samples
from cnnzoo.shapes.summary import summary
from cnnzoo.zoo import load_pretrained

if TYPE_CHECKING:
    from PIL.Image import Image
    from rich.console import Console

LAYERS = ("c1", "s2", "c3", "s4")
MAP_PIXELS = 84  # about how large a map is drawn


def run(console: "Console", out: Path) -> None:
    """Print digits, distances and the layer table, and write the feature maps of the first digit to `out`."""
    from rich.columns import Columns
    from rich.panel import Panel
    from torchvision.transforms.v2.functional import pil_to_tensor

    model = load_pretrained("lenet5", classic=True)
    shown = samples()
    guesses = classify(model, [sample.image for sample in shown])

    panels = []
    columns = ("digit", "LeNet-5 says", "", "distance", "next nearest", "distance")
    rows = []
    for sample, (best, second, *_) in zip(shown, guesses, strict=True):
        text = drawn(pil_to_tensor(sample.image)[0])
        panels.append(Panel(text, title=sample.label, expand=False))
        mark = "right" if best.label == sample.label else "wrong"
        rows.append((sample.label, best.label, mark, f"{-best.score:.1f}", second.label, f"{-second.score:.1f}"))
    console.print(Columns(panels))
    print_table(columns, rows, title="Squared distances of F6 to the codes of the classes")
    hits = sum(best.label == sample.label for sample, (best, *_) in zip(shown, guesses, strict=True))
    console.print(f"{hits} of {len(shown)} right; on all 10,000 test images {model.checkpoint.accuracy:.2%}\n")
    print_view(summary(model))
    feature_maps(model, model.checkpoint.transforms()(shown[0].image).unsqueeze(0)).save(out)
    console.print(f"wrote the maps of {', '.join(LAYERS)} for the first digit to {out}\n", soft_wrap=True)
    for said in others():
        console.print(said, soft_wrap=True)


def others() -> Iterator[str]:
    """What the other networks with weights of their own make of one kind of image each."""
    clothes = samples("fashion_mnist")
    model = load_pretrained("lenet5.classic_fashion_mnist")
    guesses = classify(model, [sample.image for sample in clothes])
    hits = sum(best.label == sample.label for sample, (best, *_) in zip(clothes, guesses, strict=True))
    yield f"things to wear (Fashion-MNIST): {hits} of {len(clothes)} right, by lenet5.classic_fashion_mnist"
    captcha = captcha_sample()
    ((read,),) = classify(load_pretrained("captcha_cnn_small"), [captcha.image])
    yield f"a CAPTCHA that says {captcha.label}: read as {read.label}, by captcha_cnn_small"


@torch.inference_mode()
def feature_maps(model: CNN, image: Tensor) -> "Image":
    """The maps of the first layers as one image: a row for the input, and rows for each layer."""
    from PIL import Image, ImageDraw
    from torchvision.transforms.v2.functional import to_pil_image
    from torchvision.utils import make_grid

    rows = [("input", image[0, 0].unsqueeze(0))]
    for name, layer in model.named_children():
        image = layer(image)
        if name in LAYERS:
            rows.append((name, image[0]))
    grids = []
    for name, maps in rows:
        zoom = MAP_PIXELS // maps.shape[1]
        large = maps.unsqueeze(1).repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)
        grid = make_grid(large, nrow=8, normalize=True, scale_each=True, pad_value=1.0)
        grids.append((name, to_pil_image(grid)))
    width = max(grid.width for _, grid in grids) + 60
    sheet = Image.new("RGB", (width, sum(grid.height + 10 for _, grid in grids)), "white")
    top = 0
    for name, grid in grids:
        ImageDraw.Draw(sheet).text((8, top + grid.height // 2 - 6), name, fill="black")
        sheet.paste(grid, (55, top))
        top += grid.height + 10
    return sheet
