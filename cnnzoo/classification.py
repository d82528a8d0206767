"""Classifying images with a network that has weights."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, Dataset

from cnnzoo.cnn import CNN
from cnnzoo.data.as_seen import as_seen
from cnnzoo.data.digits import find_digits
from cnnzoo.data.image_files import class_names, open_image
from cnnzoo.data.preprocessing import Preprocessing
from cnnzoo.errors import CheckpointError, DataError, operation
from cnnzoo.reader import CaptchaReader, check_classes
from cnnzoo.support.workers import own_processors
from cnnzoo.support.wrappers import inside

if TYPE_CHECKING:
    from PIL.Image import Image
    from torchvision.transforms.v2 import Compose


@dataclass(frozen=True)
class Guess:
    """A class, or the text of a CAPTCHA or of several digits, with its score and its share of the probability.

    The share is the softmax of the scores.

    Of a text the score is the sum over its characters, the share the product.
    """

    label: str
    score: float
    share: float


@operation
def classify(
    model: CNN,
    images: Sequence["Image"],
    *,
    invert: bool = False,
    preprocessing: Preprocessing | None = None,
    classes: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
) -> list[list[Guess]]:
    """Classify images: for each of them every class, the likeliest first.

    Of a CAPTCHA, and of an image with several handwritten digits, there is one guess: the whole text. A network whose
    classes are the digits is given what `find_digits` finds, so that a photograph will do.

    Args:
        model: from `load_pretrained`, or of your own (`save_pretrained` says how it gets its classes).
        images: of any size, turned as their EXIF orientation says.
        invert: swap black and white first.
        preprocessing: how the network wants its images; by default as its weights state.
        classes: the names of the classes, in the order of the scores; by default as its weights state.
        names: of the images, for messages.

    Raises:
        CheckpointError: nothing says how the network wants its images.
        OptionError: there are more or fewer names of classes than scores.
        DataError: no digit was found.

    Examples:
        >>> import cnnzoo
        >>> seven = cnnzoo.data.samples("mnist")[7].image
        >>> cnnzoo.classify(cnnzoo.load_pretrained("lenet5"), [seven])[0][0].label
        '7'
    """
    model = inside(model)
    asked = Question.of(model, preprocessing, classes, invert)
    names = names or [f"image {i}" for i in range(len(images))]
    return asked.answers(model, [asked.prepare(image, name) for image, name in zip(images, names, strict=True)])


def classify_files(
    model: CNN,
    files: Sequence[tuple[str, Any]],
    *,
    invert: bool = False,
    preprocessing: Preprocessing | None = None,
    classes: Sequence[str] | None = None,
    batch_size: int = 64,
    workers: int | None = None,
) -> Iterator[tuple[str, list[Guess] | DataError]]:
    """`classify` for image files: for each of them its guesses, or why there are none.

    Args:
        model: as `classify` takes it.
        files: what each is called, and its content where it is not in the file of that name.
        invert: swap black and white first.
        preprocessing: how the network wants its images; by default as its weights state.
        classes: the names of the classes; by default as its weights state.
        batch_size: images that the network takes at a time.
        workers: processes that read images; by default one a core where there is more than one batch.

    Raises:
        CheckpointError: nothing says how the network wants its images.
        OptionError: there are more or fewer names of classes than scores.
    """
    asked = Question.of(model, preprocessing, classes, invert)
    if workers is None:
        workers = own_processors() if len(files) > batch_size else 0
    loader = DataLoader(Files(files, asked), batch_size, num_workers=workers, collate_fn=list)
    names = iter([name for name, _ in files])
    for batch in loader:
        guesses = iter(asked.answers(model, [one for one in batch if isinstance(one, torch.Tensor)]))
        for one in batch:
            yield next(names), next(guesses) if isinstance(one, torch.Tensor) else DataError(one)


@dataclass(frozen=True)
class Question:
    """What images are classified for, apart from the network.

    Attributes:
        preprocessing: how the network wants its images.
        classes: the names of the classes; none where they are not known.
        invert: swap black and white first.
        digits: whether an image is looked through for handwritten digits.
    """

    preprocessing: Preprocessing
    classes: tuple[str, ...]
    invert: bool
    digits: bool

    @classmethod
    def of(
        cls, model: CNN, preprocessing: Preprocessing | None, classes: Sequence[str] | None, invert: bool
    ) -> "Question":
        """The question to a network, whose weights state what is not stated."""
        known = model.checkpoint
        preprocessing = preprocessing or (known.preprocessing if known else None)
        if preprocessing is None:
            raise CheckpointError(
                "nothing says how this network wants its images: a weights file alone does not; state preprocessing= "
                "(--preprocessing, --transforms or --recipe), or use a checkpoint's tag"
            )
        classes = tuple(known.classes if classes is None and known else classes or ())
        check_classes(model, classes)
        is_mnist = (preprocessing.channels, preprocessing.frame) == (1, (28, 28)) and classes == class_names("mnist")
        return cls(preprocessing, classes, invert, is_mnist and not isinstance(model, CaptchaReader))

    def prepare(self, image: "Image", name: str) -> torch.Tensor:
        """An image as the network takes it, (1, C, H, W), or as many as there are digits in it."""
        from PIL import ImageOps

        image = as_seen(image, name)
        if self.invert:
            image = ImageOps.invert(image.convert("RGB"))
        parts = find_digits(image, name) if self.digits else [image]
        return torch.stack([self._steps(part) for part in parts])

    @cached_property
    def _steps(self) -> "Compose":
        return self.preprocessing.transforms()

    @torch.inference_mode()
    def answers(self, model: CNN, prepared: Sequence[torch.Tensor]) -> list[list[Guess]]:
        """The guesses for prepared images."""
        if not prepared:
            return []
        like = next(model.parameters())
        scores = model(torch.cat(list(prepared)).to(like)).float().cpu()
        if isinstance(model, CaptchaReader):
            return [[guess] for guess in _texts(model, scores)]
        labels = self.classes or [f"class {i}" for i in range(scores.shape[1])]
        guesses = (_ranked(one, labels) for one in scores)
        return [_joined([next(guesses) for _ in parts]) for parts in prepared]


class Files(Dataset):
    """Image files as a network takes them; in place of one that cannot be read, why."""

    def __init__(self, files: Sequence[tuple[str, Any]], asked: Question) -> None:
        self.files, self.asked = files, asked

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor | str:
        name, content = self.files[index]
        try:
            return self.asked.prepare(open_image(name, content and BytesIO(content)), name)
        except DataError as error:
            return error.text


def _ranked(scores: torch.Tensor, labels: Sequence[str]) -> list[Guess]:
    """Every class of one image, the likeliest first."""
    shares = scores.softmax(0)
    order = scores.argsort(descending=True).tolist()
    return [Guess(str(labels[i]), scores[i].item(), shares[i].item()) for i in order]


def _joined(digits: list[list[Guess]]) -> list[Guess]:
    """What an image says as a whole: of several digits their text."""
    if len(digits) == 1:
        return digits[0]
    best = [guesses[0] for guesses in digits]
    text = "".join(guess.label for guess in best)
    return [Guess(text, sum(guess.score for guess in best), prod(guess.share for guess in best))]


def _texts(model: CaptchaReader, scores: torch.Tensor) -> Iterator[Guess]:
    """What a network reads in each image."""
    best, shares = model.rated(scores)
    for text, score, share in zip(model.decode(scores), best.tolist(), shares.tolist(), strict=True):
        yield Guess(text, score, share)
