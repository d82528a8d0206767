"""What the training loop is fed with: the batches of an epoch, for each process its part of every one.

The order of the images follows from seed and epoch alone, and so do all random numbers, so that neither a resumed
run nor another number of processes sees other batches.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from cnnzoo.data.captcha import FreshCaptchas
from cnnzoo.data.image_files import open_image
from cnnzoo.data.images import ImageFiles, ImageSet
from cnnzoo.data.preprocessing import Preprocessing
from cnnzoo.errors import DataError, OptionError
from cnnzoo.support.workers import helpers
from cnnzoo.training.augmentation import Augmentation, Chance, Crop, RandomCrop
from cnnzoo.training.world import World

Split = ImageSet | ImageFiles | FreshCaptchas
"""The images to train or to test on."""

AHEAD = {"cpu": 2**20, "cuda": 2**26}
"""Bytes of inputs that are made ready at once: several small batches cost little more than one."""


class Batch(NamedTuple):
    """This process's part of a batch.

    Attributes:
        inputs: (N, C, H, W).
        labels: (N,), or (N, positions).
        rows: images that are its own; 0 where it only takes part.
        weight: what its mean counts, so that the mean over processes is the mean over the batch.
    """

    inputs: Tensor
    labels: Tensor
    rows: int
    weight: float


@dataclass(frozen=True)
class Plan:
    """Which images make which batch of an epoch.

    Attributes:
        count: images in the set.
        batch_size: images in a batch of all processes together; the last batch may be smaller.
        seed: of the order, with the epoch.
        epoch: counted from 1.
        world: the processes.
        last: whether no epoch comes after it.
    """

    count: int
    batch_size: int
    seed: int
    epoch: int
    world: World
    last: bool = False

    def __len__(self) -> int:
        return -(-self.count // self.batch_size)

    @cached_property
    def order(self) -> Tensor:
        """All images, shuffled; the same in every process."""
        return torch.randperm(self.count, generator=self.generator(torch.device("cpu")))

    @property
    def state(self) -> int:
        """What everything random in the epoch starts from."""
        return self.seed * 1_000_003 + self.epoch

    def generator(self, device: torch.device) -> torch.Generator:
        """Random numbers that follow from seed and epoch."""
        return torch.Generator(device).manual_seed(self.state)

    def blocks(self, batches: int) -> Iterator[Tensor]:
        """The order in blocks of so many batches; a last batch that is smaller stands alone."""
        whole = self.count // self.batch_size * self.batch_size
        yield from self.order[:whole].split(batches * self.batch_size)
        if whole < self.count:
            yield self.order[whole:]


@dataclass(frozen=True)
class Transforms:
    """What becomes of training images.

    Attributes:
        preprocessing: what becomes of test images; here the crop takes the place of its first steps.
        crop: see `augmentation`.
        augment: further changes; those of colours come last.
    """

    preprocessing: Preprocessing
    crop: Crop | None = None
    augment: tuple[Augmentation, ...] = ()


class Loader(Protocol):
    """Gives the batches of an epoch."""

    def epoch(self, plan: Plan) -> Iterator[Batch]: ...


def loader(split: Split, transforms: Transforms, world: World, workers: int | None = None) -> Loader:
    """What feeds a training loop from a training set.

    Args:
        split: the training images.
        transforms: what becomes of them.
        world: the processes.
        workers: processes that read files, by default one less than there are processors; 0 reads them here.

    Raises:
        OptionError: the crop is not for images that are in memory.
    """
    if isinstance(split, ImageFiles):
        return FileLoader(split, transforms, world, helpers() if workers is None else workers)
    if isinstance(split, FreshCaptchas):
        return FreshLoader(split, transforms, world)
    return MemoryLoader(split, transforms, world)


class MemoryLoader:
    """Images that stay on the training device, in uint8."""

    def __init__(self, split: ImageSet, transforms: Transforms, world: World) -> None:
        from torchvision.transforms import v2

        preprocessing, crop = transforms.preprocessing, transforms.crop
        if not (crop is None or isinstance(crop, RandomCrop)):
            raise OptionError("crop: random_resized is for images in files; those in memory take random")
        resized = None if crop is None else [v2.Resize(crop.resized(preprocessing.frame), antialias=True)]
        images = v2.Compose([*preprocessing.framing(resized), v2.ToPureTensor()])(split.images)
        self.images, self.labels = images.to(world.device), split.labels.to(world.device)
        self.finish, self.world = Finish(transforms, crop), world

    def epoch(self, plan: Plan, places: Tensor | None = None) -> Iterator[Batch]:
        """The batches of an epoch, several of which are made ready at once.

        Args:
            plan: which images make which batch.
            places: where each image of the plan is in this set; by default in its own place.
        """
        generator, device = plan.generator(self.world.device), self.world.device
        share = -(-plan.batch_size // self.world.size)
        ahead = AHEAD[device.type] // (4 * self.images[0].numel() * plan.batch_size)
        for block in plan.blocks(max(1, ahead)):
            rows = self.world.mine(block if places is None else places[block]).to(device, non_blocking=True)
            inputs = self.finish(self.images.index_select(0, rows), Chance(generator, len(block), self.world))
            counts = self.world.counts(min(len(block), plan.batch_size))
            for part, labels in zip(inputs.split(share), self.labels[rows].split(share), strict=True):
                yield Batch(part, labels, *counts)


class FreshLoader:
    """Images that every epoch has new ones of, drawn while the one before it is trained on."""

    def __init__(self, split: FreshCaptchas, transforms: Transforms, world: World) -> None:
        self.split, self.transforms, self.world = split, transforms, world

    def epoch(self, plan: Plan) -> Iterator[Batch]:
        """The batches of an epoch."""
        rows = self._mine(plan)
        taken = self.split.take(plan.epoch, rows.tolist())
        if not plan.last:
            after = replace(plan, epoch=plan.epoch + 1)
            self.split.begin(after.epoch, self._mine(after).tolist())
        places = torch.empty(plan.count, dtype=torch.long).index_copy_(0, rows, torch.arange(len(rows)))
        yield from MemoryLoader(taken, self.transforms, self.world).epoch(plan, places)

    def _mine(self, plan: Plan) -> Tensor:
        return torch.cat([self.world.mine(block) for block in plan.blocks(1)])


class FileLoader:
    """Images that are read and cropped by processes of their own."""

    def __init__(self, split: ImageFiles, transforms: Transforms, world: World, workers: int) -> None:
        from torch.utils.data import DataLoader

        preprocessing, crop = transforms.preprocessing, transforms.crop
        steps = None if crop is None else crop.steps(preprocessing.frame)
        self.split, self.world, self.finish = split, world, Finish(transforms, crop=None)
        self.asked: list[list[Asked]] = []
        self.data = DataLoader(
            Read(preprocessing.framing(steps)),  # pyright: ignore[reportArgumentType]
            batch_sampler=self.asked,
            num_workers=workers,
            multiprocessing_context="spawn" if workers else None,  # the rest of this process is not to be forked
            persistent_workers=workers > 0,
            pin_memory=world.device.type == "cuda",
        )

    def epoch(self, plan: Plan) -> Iterator[Batch]:
        """The batches of an epoch."""
        blocks = list(plan.blocks(1))
        paths, labels, seed = self.split.paths, self.split.labels, plan.state * 2_000_003
        self.asked[:] = [
            [Asked(paths[row], labels[row], seed + row) for row in self.world.mine(block).tolist()] for block in blocks
        ]
        generator, device = plan.generator(self.world.device), self.world.device
        for block, (images, targets) in zip(blocks, served(self.data), strict=True):
            there = images.to(device, non_blocking=True)
            inputs = self.finish(there, Chance(generator, len(block), self.world))
            yield Batch(inputs, targets.to(device, non_blocking=True), *self.world.counts(len(block)))


class Asked(NamedTuple):
    """An image to read; what is random about it follows from the seed."""

    path: str
    label: int
    seed: int = 0


def served(data: Iterable[Any]) -> Iterator[Any]:
    """What processes have read; what one of them says of an image is said without its traceback."""
    try:
        yield from data
    except DataError as error:
        raise DataError(str(error).rpartition("DataError: ")[2].strip()) from None


class Read:
    """Reads images, and makes them images (C, H, W) in uint8."""

    def __init__(self, steps: list[Any]) -> None:
        from torchvision.transforms import v2

        self.steps = v2.Compose([*steps, v2.ToPureTensor()])

    def __getitem__(self, asked: Asked) -> tuple[Tensor, int]:
        image = open_image(asked.path)
        with torch.random.fork_rng(devices=[]):  # torchvision draws from torch's global generator
            torch.default_generator.manual_seed(asked.seed)
            return self.steps(image), asked.label


class Finish:
    """The last steps, for whole batches: images in uint8 to inputs."""

    def __init__(self, transforms: Transforms, crop: RandomCrop | None) -> None:
        from torchvision.transforms import v2

        self.crop, self.frame = crop, transforms.preprocessing.input_shape[1:]
        self.moves = [one for one in transforms.augment if not one.of_colors]
        self.changes = [one for one in transforms.augment if one.of_colors]
        self.scale = v2.Compose(transforms.preprocessing.scaling())
        self.normalize = v2.Compose(transforms.preprocessing.normalizing(inplace=True))

    def __call__(self, images: Tensor, chance: Chance) -> Tensor:
        if self.crop is not None:
            images = self.crop.batch(images, self.frame, chance)
        for move in self.moves:  # bytes are moved faster than floats
            images = move(images, chance)
        images = self.scale(images)
        for change in self.changes:
            images = change(images, chance)
        return self.normalize(images)
