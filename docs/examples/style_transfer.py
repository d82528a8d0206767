"""Paint one image in the style of another: Gatys, Ecker and Bethge, "Image Style Transfer Using CNNs" (CVPR 2016).

python style_transfer.py content.jpg style.jpg --hub
"""

from pathlib import Path

import click
import torch
from torch import Tensor
from torch.nn.functional import mse_loss
from torchvision.transforms.v2.functional import normalize, pil_to_tensor, resize
from torchvision.utils import save_image

import cnnzoo
from cnnzoo.data import Preprocessing, open_image

IMAGENET = Preprocessing()
CONTENT = "conv4_2"
STYLE = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")


@click.command()
@click.argument("content", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("style", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", "name", default="vgg19", show_default=True, help="A VGG.")
@click.option("--hub", is_flag=True, help="Download missing weights.")
@click.option("--no-weights", is_flag=True, help="Random weights, to try the script without any.")
@click.option("--size", default=384, show_default=True, help="Pixels of the shorter side.")
@click.option("--steps", default=15, show_default=True, help="Of L-BFGS, of twenty iterations each.")
@click.option("--style-weight", "weight", default=1e6, show_default=True, help="The content's weight is 1.")
@click.option("--out", default="styled.png", show_default=True, type=click.Path(path_type=Path))
def style_transfer(
    content: Path, style: Path, name: str, hub: bool, no_weights: bool, size: int, steps: int, weight: float, out: Path
) -> None:
    """Paint CONTENT in the style of STYLE."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = cnnzoo.create(name, seed=0) if no_weights else cnnzoo.load_pretrained(name, hub=hub)
    part = cnnzoo.extract(cnnzoo.freeze(model.to(device)), CONTENT, *STYLE)

    def layers(image: Tensor) -> dict[str, Tensor]:
        return part(normalize(image, list(IMAGENET.mean), list(IMAGENET.std)))

    start = opened(content, size).to(device)
    maps = layers(start)[CONTENT]
    grams = {layer: gram(found) for layer, found in layers(opened(style, size).to(device)).items() if layer in STYLE}
    canvas = start.clamp(0.01, 0.99).logit().requires_grad_()

    def losses() -> tuple[Tensor, Tensor]:
        found = layers(canvas.sigmoid())  # pixels between 0 and 1
        return mse_loss(found[CONTENT], maps), weight * sum(mse_loss(gram(found[one]), grams[one]) for one in STYLE)

    def closure() -> Tensor:
        loss = sum(losses())
        (canvas.grad,) = torch.autograd.grad(loss, canvas)
        return loss

    lbfgs = torch.optim.LBFGS([canvas], tolerance_grad=0, tolerance_change=0, line_search_fn="strong_wolfe")
    for step in range(steps + 1):
        if step:
            lbfgs.step(closure)
        print("step {}: content {:.6g}, style {:.6g}".format(step, *losses()))
    save_image(canvas.detach().sigmoid(), out)


def opened(path: Path, size: int) -> Tensor:
    """An image (1, 3, H, W) of values between 0 and 1."""
    image = pil_to_tensor(open_image(path).convert("RGB")).unsqueeze(0) / 255
    return resize(image, [size], antialias=True).contiguous()


def gram(maps: Tensor) -> Tensor:
    """How much any two of the maps (1, C, H, W) go together wherever in the image that is, (C, C), at any size."""
    flat = maps.flatten(2).squeeze(0)
    return flat @ flat.T / flat.numel()


if __name__ == "__main__":
    style_transfer()
