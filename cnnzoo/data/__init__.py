"""Images: the data sets of the training recipes, what turns an image into a network's input, and ten samples."""

from cnnzoo.data.captchas import Captcha, FreshCaptchas, captchas, write_captchas
from cnnzoo.data.datasets import cifar10, cifar100, fashion_mnist, image_folder, mnist
from cnnzoo.data.digits import find_digits
from cnnzoo.data.images import ImageSet, PictureFiles, hold_out
from cnnzoo.data.pictures import Sample, open_picture, samples
from cnnzoo.data.preprocessing import Preprocessing

__all__ = [
    "Captcha",
    "FreshCaptchas",
    "ImageSet",
    "PictureFiles",
    "Preprocessing",
    "Sample",
    "captchas",
    "cifar10",
    "cifar100",
    "fashion_mnist",
    "find_digits",
    "hold_out",
    "image_folder",
    "mnist",
    "open_picture",
    "samples",
    "write_captchas",
]
