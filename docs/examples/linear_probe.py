"""Train a new last layer only: the rest of a network with published weights stays as it is.

    python linear_probe.py images --model resnet18 --hub

`images/train` and `images/test` hold a folder of images for each class.
"""

from pathlib import Path

import click
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

import cnnzoo
from cnnzoo.data import open_image


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--model", "name", default="resnet18", show_default=True, help="A network with published weights.")
@click.option("--hub", is_flag=True, help="Download missing weights.")
@click.option("--epochs", default=10, show_default=True)
@click.option("--batch-size", default=32, show_default=True)
@click.option("--lr", default=1e-2, show_default=True)
@click.option("--workers", default=2, show_default=True, help="Processes that read images.")
@click.option("--seed", default=0, show_default=True)
@click.option("--out", default="probed", show_default=True, type=click.Path(path_type=Path))
def linear_probe(
    folder: Path, name: str, hub: bool, epochs: int, batch_size: int, lr: float, workers: int, seed: int, out: Path
) -> None:
    """Train the last layer of a network on IMAGES."""
    torch.manual_seed(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = cnnzoo.load_pretrained(name, hub=hub, device=device)
    prepare = model.checkpoint.transforms()
    train = ImageFolder(str(folder / "train"), prepare, loader=open_image)
    test = ImageFolder(str(folder / "test"), prepare, loader=open_image)
    assert train.classes == test.classes, "train and test hold different classes"

    cnnzoo.freeze(model, norms=True)  # parameters, and the statistics of batch normalisation
    model.reset_classifier(len(train.classes))  # which is fresh, and not frozen
    optimizer = torch.optim.Adam(cnnzoo.parameter_groups(model, lr))
    for epoch in range(1, epochs + 1):
        model.train()
        total = 0.0
        for images, labels in DataLoader(train, batch_size, shuffle=True, num_workers=workers):
            loss = cross_entropy(model(images.to(device)), labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(labels)
        share = accuracy(model, DataLoader(test, batch_size, num_workers=workers), device)
        print(f"epoch {epoch}: loss {total / len(train):.4f}, test accuracy {share:.4f}")
    cnnzoo.save_pretrained(model, out, classes=train.classes, accuracy=share)


@torch.inference_mode()
def accuracy(model: cnnzoo.CNN, batches: DataLoader, device: torch.device) -> float:
    """The share of images that are classified right."""
    model.eval()
    hits = [model(images.to(device)).argmax(1).cpu() == labels for images, labels in batches]
    return torch.cat(hits).float().mean().item()


if __name__ == "__main__":
    linear_probe()
