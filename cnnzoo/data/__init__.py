"""Images: the data sets of the training recipes, what turns an image into a network's input, and ten samples."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnzoo.data.captcha import Captcha, FreshCaptchas
    from cnnzoo.data.captcha_files import SkippedFilesWarning, captchas, write_captchas
    from cnnzoo.data.datasets import cifar10, cifar100, fashion_mnist, image_folder, mnist
    from cnnzoo.data.digits import find_digits
    from cnnzoo.data.image_files import LargeImageWarning, Sample, open_image, samples
    from cnnzoo.data.images import ImageFiles, ImageSet, hold_out
    from cnnzoo.data.preprocessing import Preprocessing

__all__ = [
    "Captcha",
    "FreshCaptchas",
    "ImageFiles",
    "ImageSet",
    "LargeImageWarning",
    "Preprocessing",
    "Sample",
    "SkippedFilesWarning",
    "captchas",
    "cifar10",
    "cifar100",
    "fashion_mnist",
    "find_digits",
    "hold_out",
    "image_folder",
    "mnist",
    "open_image",
    "samples",
    "write_captchas",
]

_FILES = ("captcha", "captcha_files", "datasets", "digits", "image_files", "images", "preprocessing")


def __getattr__(name: str) -> Any:
    """Import a name on first use: processes that draw CAPTCHAs need not wait for torch."""
    if name in __all__:
        for file in _FILES:
            found = vars(importlib.import_module(f"cnnzoo.data.{file}"))
            if name in found:
                return found[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
