"""A linear classifier on the features of several networks, which are computed once and kept.

    python concatenated_features.py images --model resnet18 --model vgg11:fc7 --hub

`images/train` and `images/test` hold a folder of images for each class. A layer is named after a colon; without,
the features are what the network's own classifier sees. A second run, say with another `--weight-decay`, finds the
tables of the first.
"""

import re
from pathlib import Path

import click
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

import cnnzoo


@click.command()
@click.argument("images", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--model", "networks", multiple=True, default=("resnet18", "vgg11:fc7"), help="NETWORK or NETWORK:LAYER.")
@click.option("--hub", is_flag=True, help="Download missing weights.")
@click.option("--steps", default=200, show_default=True, help="Of the optimiser.")
@click.option("--weight-decay", default=1e-3, show_default=True)
@click.option("--workers", type=int, help="Processes that read images; by default one a core.")
@click.option("--tables", default="features", show_default=True, type=click.Path(path_type=Path), help="Kept here.")
def concatenated_features(
    images: Path,
    networks: tuple[str, ...],
    hub: bool,
    steps: int,
    weight_decay: float,
    workers: int | None,
    tables: Path,
) -> None:
    """Classify IMAGES by the features of several networks."""
    tables.mkdir(exist_ok=True)
    found: dict[str, list[cnnzoo.FeatureTable]] = {"train": [], "test": []}
    for network in networks:
        name, _, layer = network.partition(":")
        model = cnnzoo.load_pretrained(name, hub=hub, device="cuda" if torch.cuda.is_available() else "cpu")
        file, layers = re.sub(r"[^.\w]+", "-", network), [layer] if layer else []
        for split, those in found.items():
            path = tables / f"{file}-{split}.safetensors"
            those.append(cnnzoo.save_features(model, images / split, path, *layers, workers=workers))

    classes, others = (those[0].classes for those in found.values())
    assert classes == others, "train and test hold different classes"
    train, test = joined(found["train"]), joined(found["test"])
    center, scale = train.mean(0), train.std(0) + 1e-6
    train, test = (train - center) / scale, (test - center) / scale
    labels, expected = found["train"][0].labels, found["test"][0].labels
    classifier = torch.nn.Linear(train.shape[1], len(classes))
    optimizer = torch.optim.AdamW(classifier.parameters(), 1e-2, weight_decay=weight_decay)
    for step in range(1, steps + 1):
        loss = cross_entropy(classifier(train), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % max(1, steps // 5) == 0:
            share = (classifier(test).argmax(1) == expected).float().mean().item()
            print(f"step {step}: loss {loss.item():.4f}, test accuracy {share:.4f}")


def joined(tables: list[cnnzoo.FeatureTable]) -> Tensor:
    """The features of the same images by several networks, side by side."""
    assert all(table.files == tables[0].files for table in tables)
    return torch.cat([table.features.float() for table in tables], 1)


if __name__ == "__main__":
    concatenated_features()
