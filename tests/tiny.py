"""Data sets of a few images that a network can tell apart, for every kind of data that a recipe names."""

from functools import cache
from pathlib import Path

import torch
from torchvision.transforms.v2.functional import to_pil_image

from cnnzoo.data.captcha import Captcha, DrawnCaptchas
from cnnzoo.data.image_files import class_names
from cnnzoo.data.images import ImageFiles, ImageSet
from cnnzoo.training.recipe import Recipe


def bars(n: int, seed: int = 0, channels: int = 1, size: int = 28) -> ImageSet:
    """Bars at ten heights, one for each class, in noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n).remainder(10)
    images = torch.randint(60, (n, channels, size, size), generator=generator, dtype=torch.uint8)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[:, 4 + 2 * label : 6 + 2 * label, 4:24] = 255
    return ImageSet(images, labels, class_names("fashion_mnist"))


@cache
def captchas(n: int, captcha: Captcha | None = None) -> ImageSet:
    """Real ones."""
    return DrawnCaptchas(captcha or Captcha(), "train").take(range(n))


def write_folder(root: Path, splits: tuple[str, ...] = ("train", "val"), each: int = 4) -> Path:
    """Images of two classes in files of unequal sizes, red and green ones; one of each to test on."""
    for split in splits:
        for channel, name in enumerate(("red", "green")):
            (root / split / name).mkdir(parents=True)
            for number in range(each if split == "train" else 1):
                image = torch.randint(
                    40, (3, 60 + number, 80), dtype=torch.uint8, generator=torch.Generator().manual_seed(number)
                )
                image[channel] += 180
                to_pil_image(image).save(root / split / name / f"{number}.png")
    return root


def files(folder: Path) -> dict[str, ImageFiles]:
    """The same as a recipe loads it."""
    from cnnzoo.data.datasets import image_folder

    if not (folder / "train").exists():
        write_folder(folder)
    return image_folder(folder)


def sets(recipe: Recipe, folder: Path) -> dict:
    """Images for a recipe, the same to train and to test on."""
    kind = recipe.data["name"]
    if kind == "image_folder":
        return files(folder)
    if kind == "captchas":
        one = captchas(8, Captcha(**recipe.captcha_facts()))
    else:
        one = bars(20, channels=3, size=32) if kind == "cifar10" else bars(20)
    return {"train": one, "test": one}
