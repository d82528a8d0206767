"""Fine-tune a network with published weights on images of your own: a new last layer, and all others along with it.

    python finetune.py images --model resnet18 --hub

`images/train` and `images/test` hold a folder of images for each class.
"""

from pathlib import Path

import click
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

import cnnzoo
from cnnzoo.data import open_image


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--model", "name", default="resnet18", show_default=True, help="A network with published weights.")
@click.option("--hub", is_flag=True, help="Download missing weights.")
@click.option("--epochs", default=10, show_default=True)
@click.option("--batch-size", default=32, show_default=True)
@click.option("--lr", default=1e-3, show_default=True, help="Learning rate of the last layer.")
@click.option("--decay", default=0.8, show_default=True, help="Learning rate of a layer, over that of the next one.")
@click.option("--workers", default=2, show_default=True, help="Processes that read images.")
@click.option("--seed", default=0, show_default=True)
@click.option("--out", default="finetuned", show_default=True, type=click.Path(path_type=Path))
def finetune(
    folder: Path,
    name: str,
    hub: bool,
    epochs: int,
    batch_size: int,
    lr: float,
    decay: float,
    workers: int,
    seed: int,
    out: Path,
) -> None:
    """Fine-tune a network on IMAGES."""
    torch.manual_seed(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = cnnzoo.load_pretrained(name, hub=hub, device=device)
    prepare = model.checkpoint.transforms()
    train = ImageFolder(str(folder / "train"), v2.Compose([v2.RandomHorizontalFlip(), prepare]), loader=open_image)
    test = ImageFolder(str(folder / "test"), prepare, loader=open_image)
    assert train.classes == test.classes, "train and test hold different classes"
    model.reset_classifier(len(train.classes))

    groups = cnnzoo.parameter_groups(model, lr, decay=decay, weight_decay=0.05)
    optimizer = torch.optim.AdamW(groups)
    loader = DataLoader(train, batch_size, shuffle=True, num_workers=workers)
    rates = [group["lr"] for group in groups]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=epochs * len(loader))
    for epoch in range(1, epochs + 1):
        model.train()
        total = 0.0
        for images, labels in loader:
            loss = cross_entropy(model(images.to(device)), labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(labels)
        share = accuracy(model, DataLoader(test, batch_size, num_workers=workers), device)
        print(f"epoch {epoch}: loss {total / len(train):.4f}, test accuracy {share:.4f}")

    # `cnnzoo predict --model finetuned` names these classes; the card says which weights these were made from.
    cnnzoo.save_pretrained(model, out, classes=train.classes, accuracy=share)


@torch.inference_mode()
def accuracy(model: cnnzoo.CNN, batches: DataLoader, device: torch.device) -> float:
    """The share of images that are classified right."""
    model.eval()
    hits = [model(images.to(device)).argmax(1).cpu() == labels for images, labels in batches]
    return torch.cat(hits).float().mean().item()


if __name__ == "__main__":
    finetune()
