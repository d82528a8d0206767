"""Measuring a network on a test set."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cnnzoo.data.images import ImageFiles, ImageSet
from cnnzoo.data.preprocessing import Preprocessing
from cnnzoo.errors import OptionError, operation
from cnnzoo.models.captcha_crnn import CaptchaCRNN
from cnnzoo.registry import ModelName
from cnnzoo.support.progress import Display
from cnnzoo.support.workers import helpers
from cnnzoo.training.batches import Asked, Read, served
from cnnzoo.training.losses import CTC, CrossEntropy, characters, right
from cnnzoo.training.world import World
from cnnzoo.zoo import load_pretrained

Views = Literal["middle", "ten"]
"""Of each image the middle, or four corners and the middle, each also mirrored, whose probabilities are averaged."""


@dataclass(frozen=True)
class Measures:
    """What a test set says of a network: shares of it, but for the loss.

    Attributes:
        loss: the mean of the criterion.
        accuracy: images with the highest score at their label; where there are several positions, at all of them.
        top5: images with their label among the five highest scores, where there are at least a hundred classes.
        characters: of an image's characters those that are right, on average over the images, where there are several.
    """

    loss: float
    accuracy: float
    top5: float | None = None
    characters: float | None = None


@operation
@torch.inference_mode()
def evaluate(
    network: nn.Module | str,
    split: ImageSet | ImageFiles,
    preprocessing: Preprocessing | None = None,
    criterion: Callable[[Tensor, Tensor], Tensor] | None = None,
    *,
    views: Views = "middle",
    batch_size: int = 256,
    world: World | None = None,
    workers: int | None = None,
    display: Display | None = None,
) -> Measures:
    """Measure a network on a test set, in evaluation mode and in the precision of its weights.

    Args:
        network: it is left in evaluation mode; a name is loaded by `load_pretrained`.
        split: the test images; every process takes its part of them.
        preprocessing: what becomes of an image; by default what the network's weights want.
        criterion: scores and labels to a mean loss; by default the cross-entropy, or that of CTC.
        views: what the network sees of each image.
        batch_size: of what the network sees at once.
        world: the processes, on the network's device; by default this one.
        workers: processes that read files, by default one less than there are processors.
        display: is told how many of the images are done; the caller says when they begin.

    Raises:
        OptionError: nothing says what becomes of an image.
        DataError: an image cannot be read.

    Examples:
        >>> import cnnzoo
        >>> test = cnnzoo.load_recipe("lenet5_mnist").load_data("data/mnist")["test"]
        >>> 0 <= cnnzoo.evaluate("lenet5", test).accuracy <= 1
        True
    """
    network = network if isinstance(network, nn.Module) else load_pretrained(ModelName(network))
    preprocessing = preprocessing or _preprocessing_of(network)
    world = world or World(next((one.device for one in network.parameters()), torch.device("cpu")))
    criterion = criterion or (CTC() if isinstance(network, CaptchaCRNN) else CrossEntropy())
    network.eval()
    sums = torch.zeros(4, dtype=torch.float64, device=world.device)
    size = batch_size if views == "middle" else max(1, batch_size // 10)
    done = 0
    for inputs, labels in _batches(split, preprocessing, views, size, world, workers):
        scores = _scores(network, inputs)
        loss = criterion(scores, labels) * len(labels)
        hits, top5, read = right(scores, labels).sum(), torch.zeros(()), characters(scores, labels).sum()
        if labels.ndim == 1:
            top5 = (scores.topk(min(5, scores.shape[1])).indices == labels.unsqueeze(1)).sum()
        sums += torch.stack([one.to(loss) for one in (loss, hits, top5, read)])
        done += len(labels) * world.size
        if display is not None:
            display.step(min(done, len(split)))
    loss, accuracy, top5, share = (world.sum(sums) / len(split)).tolist()
    positions = split.labels.shape[1] if isinstance(split, ImageSet) and split.labels.ndim == 2 else 1
    return Measures(
        loss=loss,
        accuracy=accuracy,
        top5=top5 if positions == 1 and len(split.classes) >= 100 else None,
        characters=share if positions > 1 else None,
    )


def _preprocessing_of(network: nn.Module) -> Preprocessing:
    found = getattr(getattr(network, "checkpoint", None), "preprocessing", None)
    if found is None:
        raise OptionError(
            f"nothing says how this {type(network).__name__} wants its images; pass preprocessing, such as "
            "cnnzoo.load_recipe(...).preprocessing"
        )
    return found


def _scores(network: nn.Module, inputs: Tensor) -> Tensor:
    """Scores (N, K) of inputs (N, C, H, W); of several views (N, V, C, H, W) the logarithm of the mean probability."""
    if inputs.ndim == 4:
        return network(inputs).float()
    scores = network(inputs.flatten(0, 1)).float().unflatten(0, inputs.shape[:2])
    return scores.softmax(2).mean(1).clamp_min(1e-30).log()


def _batches(
    split: ImageSet | ImageFiles,
    preprocessing: Preprocessing,
    views: Views,
    size: int,
    world: World,
    workers: int | None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """This process's inputs and labels, in order."""
    from torch.utils.data import DataLoader
    from torchvision.transforms import v2

    frame = _framing(preprocessing, views)
    finish = v2.Compose([*preprocessing.scaling(), *preprocessing.normalizing()])
    rows = range(world.rank, len(split), world.size)
    if isinstance(split, ImageSet):
        read = v2.Compose([*frame, v2.ToPureTensor()])
        for start in range(0, len(rows), size):
            chosen = torch.tensor(rows[start : start + size])
            yield finish(read(split.images[chosen].to(world.device))), split.labels[chosen].to(world.device)
        return
    asked = [Asked(split.paths[row], split.labels[row]) for row in rows]
    workers = helpers() if workers is None else workers
    data = DataLoader(
        Read(frame),  # pyright: ignore[reportArgumentType]
        batch_sampler=[asked[start : start + size] for start in range(0, len(asked), size)],
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
    )
    for images, labels in served(data):
        yield finish(images.to(world.device)), labels.to(world.device)


def _framing(preprocessing: Preprocessing, views: Views) -> list[Any]:
    """An image to the images (C, H, W) that the network sees of it; to ten of them (10, C, H, W)."""
    from torchvision.transforms import InterpolationMode, v2

    if views == "middle":
        return preprocessing.framing()
    mode = InterpolationMode(preprocessing.interpolation)
    resized = v2.Resize(preprocessing.resize or preprocessing.frame, mode, antialias=True)
    return [*preprocessing.framing([resized, v2.TenCrop(preprocessing.frame)]), _stacked]


def _stacked(views: tuple[Tensor, ...]) -> Tensor:
    return torch.stack(views, -4)
