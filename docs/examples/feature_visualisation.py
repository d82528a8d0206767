"""Draw what a channel of a layer responds to: from noise, uphill over the pixels of an image.

    python feature_visualisation.py --layer inception_4c --channel 61 --hub
    python feature_visualisation.py --model lenet5 --layer c3 --size 28 --jitter 2

So that more than high frequencies come out (Olah, Mordvintsev and Schubert, "Feature Visualization", Distill 2017),
each step sees the image moved by some pixels, and differences between neighbouring pixels cost something.
"""

from pathlib import Path

import click
import torch
from torch import Tensor
from torchvision.utils import save_image

import cnnzoo
from cnnzoo.data import Preprocessing


@click.command()
@click.option("--model", "name", default="googlenet", show_default=True, help="A network, or a folder of one.")
@click.option("--hub", is_flag=True, help="Download missing weights.")
@click.option("--layer", default="inception_4c", show_default=True)
@click.option("--channel", default=0, show_default=True)
@click.option("--size", default=224, show_default=True, help="Height and width of the image in pixels.")
@click.option("--steps", default=512, show_default=True, help="Of Adam.")
@click.option("--lr", default=0.05, show_default=True)
@click.option("--jitter", default=16, show_default=True, help="Pixels that the image is moved by at most.")
@click.option("--smoothness", default=0.1, show_default=True, help="What the total variation counts for.")
@click.option("--seed", default=0, show_default=True)
@click.option("--out", default="feature.png", show_default=True, type=click.Path(path_type=Path))
def feature_visualisation(
    name: str,
    hub: bool,
    layer: str,
    channel: int,
    size: int,
    steps: int,
    lr: float,
    jitter: int,
    smoothness: float,
    seed: int,
    out: Path,
) -> None:
    """Draw what a channel of a layer responds to."""
    torch.manual_seed(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = cnnzoo.freeze(cnnzoo.load_pretrained(name, hub=hub, device=device))
    part = cnnzoo.extract(model, layer)
    prepared = model.checkpoint.preprocessing if model.checkpoint else Preprocessing()

    def activation(image: Tensor) -> Tensor:
        return part((image - mean) / std)[layer][:, channel].mean()

    mean, std = (torch.tensor(value, device=device).view(-1, 1, 1) for value in (prepared.mean, prepared.std))
    canvas = (0.1 * torch.randn(1, prepared.channels, size, size)).to(device).requires_grad_()
    optimizer = torch.optim.Adam([canvas], lr)
    for step in range(steps + 1):
        image = canvas.sigmoid()  # pixels between 0 and 1
        if step % max(1, steps // 8) == 0:
            with torch.no_grad():
                print(f"step {step}: activation {activation(image).item():.6g}")
        moves = torch.randint(-jitter, jitter + 1, (2,)).tolist()
        score = activation(image.roll(moves, (2, 3))) - smoothness * total_variation(image)
        optimizer.zero_grad()
        (-score).backward()
        optimizer.step()
    save_image(image.detach(), out)


def total_variation(image: Tensor) -> Tensor:
    """The mean difference between neighbouring pixels, along rows and along columns."""
    return image.diff(dim=2).abs().mean() + image.diff(dim=3).abs().mean()


if __name__ == "__main__":
    feature_visualisation()
