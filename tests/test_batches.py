"""What the loop is fed with: every image once, changed at random but reproducibly, and the same for any world."""

from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode, functional

import cnnzoo
from cnnzoo.data.captcha import Captcha, DrawnCaptchas, FreshCaptchas
from cnnzoo.data.image_files import open_image
from cnnzoo.data.images import ImageSet
from cnnzoo.data.preprocessing import Preprocessing
from cnnzoo.training import batches
from cnnzoo.training.augmentation import Chance, Distort, Flip, PrincipalColors, RandomCrop, RandomResizedCrop
from cnnzoo.training.batches import Batch, FileLoader, MemoryLoader, Plan, Transforms, loader
from cnnzoo.training.world import World

ALONE = World()
PLAIN = Transforms(Preprocessing(channels=1, size=8, mean=0.0, std=1.0))


def numbered(n: int, size: int = 8, channels: int = 1) -> ImageSet:
    """Images of noise whose labels are their numbers."""
    images = torch.randint(
        256, (n, channels, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    return ImageSet(images, torch.arange(n), tuple(map(str, range(n))))


def everyone(images: ImageSet, transforms: Transforms, size: int, batch_size: int, epoch: int = 1) -> list[list[Batch]]:
    """For every step the batches of all processes."""
    worlds = [World(rank=rank, size=size) for rank in range(size)]
    feeds = [
        list(MemoryLoader(images, transforms, world).epoch(Plan(len(images), batch_size, 0, epoch, world)))
        for world in worlds
    ]
    return [list(step) for step in zip(*feeds, strict=True)]


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("images", [24, 25, 26, 35, 37])
def test_every_image_is_seen_once_in_an_epoch(size: int, images: int) -> None:
    steps = everyone(numbered(images), PLAIN, size, batch_size=12)
    seen = [label for step in steps for batch in step for label in batch.labels[: batch.rows].tolist()]
    assert sorted(seen) == list(range(images))
    assert len(steps) == -(-images // 12)
    for step in steps:
        assert all(len(batch.labels) >= 1 for batch in step)  # even one that has no rows takes part
        assert sum(batch.weight for batch in step) == pytest.approx(size)


@pytest.mark.parametrize("size", [2, 3])
def test_mean_over_processes_is_the_mean_over_the_batch(size: int) -> None:
    alone, shared = (everyone(numbered(31), PLAIN, world, batch_size=12) for world in (1, size))
    for (whole,), parts in zip(alone, shared, strict=True):
        mean = sum(batch.weight * batch.labels.double().mean() for batch in parts) / size
        assert mean == pytest.approx(whole.labels.double().mean())


@pytest.mark.parametrize("size", [2, 3])
def test_images_are_changed_alike_in_any_world(size: int) -> None:
    distort = Distort(turn=10, slant=10, stretch=0.1, bend=1.0)
    transforms = replace(PLAIN, crop=RandomCrop(padding=2), augment=(Flip(), distort))
    alone = inputs_by_label(everyone(numbered(31), transforms, 1, batch_size=12))
    shared = inputs_by_label(everyone(numbered(31), transforms, size, batch_size=12))
    assert alone.keys() == shared.keys()
    for label, inputs in alone.items():
        assert torch.equal(inputs, shared[label])


def inputs_by_label(steps: list[list[Batch]]) -> dict[int, Tensor]:
    pairs = ((batch.labels[: batch.rows], batch.inputs) for step in steps for batch in step)
    return {int(label): one for labels, inputs in pairs for label, one in zip(labels, inputs, strict=False)}


def test_order_follows_from_seed_and_epoch() -> None:
    orders = [Plan(50, 8, seed, epoch, ALONE).order.tolist() for seed, epoch in ((0, 1), (0, 1), (0, 2), (1, 1))]
    assert orders[0] == orders[1]
    assert len({tuple(order) for order in orders}) == 3


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many batches are made ready at once decides which random numbers an image gets, and nothing else."""
    labels = []
    for ahead in (1, 2**20):
        monkeypatch.setitem(batches.AHEAD, "cpu", ahead)
        labels.append([step[0].labels.tolist() for step in everyone(numbered(31), PLAIN, 1, batch_size=12)])
    assert labels[0] == labels[1]


def test_inputs_are_those_of_the_preprocessing() -> None:
    images = tiny.bars(20)
    prepared = Preprocessing(channels=1, size=28, pad=2, mean=0.3, std=0.4)
    expected = prepared.transforms()(images.images)
    for batch in MemoryLoader(images, Transforms(prepared), ALONE).epoch(Plan(20, 8, 0, 1, ALONE)):
        for one, label in zip(batch.inputs, batch.labels.tolist(), strict=True):
            assert any(torch.equal(one, expected[i]) for i in (label, label + 10))


def chance(n: int, seed: int = 0) -> Chance:
    return Chance(torch.Generator().manual_seed(seed), n, ALONE)


def test_flips_half_of_the_images() -> None:
    images = torch.rand(64, 1, 12, 12)
    flipped = Flip()(images, chance(64))
    same = [torch.equal(a, b) for a, b in zip(flipped, images, strict=True)]
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(flipped, images, strict=True)]
    assert 10 < sum(same) < 54
    assert all(a != b for a, b in zip(same, mirrored, strict=True))


def smooth(n: int, height: int = 40, width: int = 60) -> Tensor:
    coarse = torch.rand(n, 1, 5, 7, generator=torch.Generator().manual_seed(1))
    return (255 * torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")).to(torch.uint8)


def test_distortion_by_nothing_changes_nothing() -> None:
    images = smooth(4)
    assert torch.equal(Distort()(images, chance(4)), images)


@pytest.mark.parametrize("what", ["turn", "slant", "stretch"])
def test_distortions_are_those_of_torchvision(what: str) -> None:
    images, most = smooth(8), {"turn": 20.0, "slant": 15.0, "stretch": 0.2}[what]
    changed = Distort(**{what: most})(images, chance(8))
    turn, slant, tall, wide = (2 * chance(8).uniform(4) - 1).unbind(1)
    for i, (image, new) in enumerate(zip(images, changed, strict=True)):
        if what == "stretch":
            size = [round(40 * (1 + most * tall[i].item())), round(60 * (1 + most * wide[i].item()))]
            theirs = functional.center_crop(functional.resize(image, size, antialias=False), [40, 60])
        else:
            angle, shear = (-most * turn[i].item(), 0.0) if what == "turn" else (0.0, most * slant[i].item())
            options = {"translate": [0, 0], "scale": 1.0, "interpolation": InterpolationMode.BILINEAR}
            theirs = functional.affine(image, angle=angle, shear=[shear, 0.0], **options)
        middle = (theirs.float() - new.float())[:, 10:-10, 12:-12].abs()
        assert middle.mean() < (8 if what == "stretch" else 3), (what, i)  # sizes in whole pixels
        assert (image.float() - new.float())[:, 10:-10, 12:-12].abs().mean() > middle.mean()


def test_bending_moves_points_by_pixels() -> None:
    ramp = torch.arange(200, dtype=torch.uint8).expand(64, 1, 40, 200).contiguous()  # brightness says where from
    moved = (Distort(bend=2.0)(ramp, chance(64)).float() - ramp.float())[:, :, 5:-5, 20:-20]
    assert 1.0 < moved.std() < 2.5
    assert moved.diff(dim=3).abs().max() <= 2  # and smoothly


@pytest.mark.parametrize("wrong", [{"turn": -1}, {"turn": 90}, {"slant": 95}, {"stretch": 1.0}, {"bend": -0.1}])
def test_distortions_that_cannot_be(wrong: dict) -> None:
    with pytest.raises(cnnzoo.OptionError, match=r"distort: got turn=.*; all are 0 or more, the angles less than 90"):
        Distort(**wrong)


def test_crops_at_every_place() -> None:
    images = torch.rand(64, 3, 12, 10)
    cropped = RandomCrop(padding=2).batch(images, (12, 10), chance(64))
    moves = set()
    for new, old in zip(cropped, images, strict=True):
        padded = torch.nn.functional.pad(old, [2] * 4)
        found = {(y, x) for y in range(5) for x in range(5) if torch.equal(new, padded[:, y : y + 12, x : x + 10])}
        assert found
        moves |= found
    assert len(moves) > 15
    assert RandomCrop(size=7).batch(images, (12, 10), chance(64)).shape == (64, 3, 7, 7)


def test_images_in_memory_are_resized_before_they_are_cropped() -> None:
    transforms = replace(PLAIN, crop=RandomCrop(resize=10))
    images = numbered(6)
    resized = v2.functional.to_dtype(v2.functional.resize(images.images, [10, 10]), torch.float32, scale=True)
    for batch in MemoryLoader(images, transforms, ALONE).epoch(Plan(6, 6, 0, 1, ALONE)):
        for one, label in zip(batch.inputs, batch.labels.tolist(), strict=True):
            places = ((y, x) for y in range(3) for x in range(3))
            assert any(torch.equal(one, resized[label][:, y : y + 8, x : x + 8]) for y, x in places)


def test_principal_colors_shift_all_pixels_of_a_image_alike() -> None:
    images = torch.rand(500, 3, 4, 4)
    shift = (PrincipalColors(std=0.1)(images, chance(500)) - images).flatten(2)
    torch.testing.assert_close(shift, shift[:, :, :1].expand_as(shift))
    # Along the first component, which is nearly grey, they vary by 0.1 times its value.
    grey = shift[:, :, 0] @ torch.tensor([-0.5675, -0.5808, -0.5836])
    assert grey.std().item() == pytest.approx(0.1 * 0.2175, rel=0.1)
    with pytest.raises(cnnzoo.OptionError, match=r"principal_colors: got images of 1 channels; it is for colours"):
        PrincipalColors()(torch.rand(2, 1, 4, 4), chance(2))


@pytest.mark.parametrize(
    ("crop", "message"),
    [
        (RandomResizedCrop(), r"random_resized is for images in files; those in memory take random"),
        (RandomCrop(resize=(10, 20)), r"a range of resize= are for images in files"),
        (RandomCrop(square=True), r"square= and a range of resize= are for images in files"),
    ],
)
def test_crops_of_files_only(crop, message: str) -> None:
    with pytest.raises(cnnzoo.OptionError, match=message):
        loader(numbered(4), replace(PLAIN, crop=crop), ALONE)


COLOUR = Preprocessing(size=24, resize=28, mean=0.0, std=1.0)


def read(folder: Path, transforms: Transforms, workers: int = 0, epoch: int = 1, world: World = ALONE) -> list[Batch]:
    images = tiny.files(folder)["train"]
    feed = loader(images, transforms, world, workers)
    assert isinstance(feed, FileLoader)
    return list(feed.epoch(Plan(len(images), 4, 0, epoch, world)))


def test_files_are_read_once_in_an_epoch(tmp_path: Path) -> None:
    transforms = Transforms(COLOUR, RandomResizedCrop(), (Flip(),))
    found = read(tmp_path, transforms)
    assert [batch.inputs.shape for batch in found] == [(4, 3, 24, 24)] * 2
    labels = torch.cat([batch.labels for batch in found])
    assert sorted(labels.tolist()) == [0] * 4 + [1] * 4
    red = torch.cat([batch.inputs for batch in found]).mean((2, 3)).argmax(1) == 0
    assert torch.equal(red, labels == tiny.files(tmp_path)["train"].classes.index("red"))


@pytest.mark.parametrize("crop", [RandomCrop(resize=(26, 40)), RandomCrop(resize=28, square=True), RandomCrop(size=16)])
def test_crops_of_files(tmp_path: Path, crop: RandomCrop) -> None:
    size = crop.size or 24
    assert read(tmp_path, Transforms(COLOUR, crop))[0].inputs.shape == (4, 3, size, size)
    without = read(tmp_path, Transforms(COLOUR))
    prepared = [COLOUR.transforms()(open_image(path)) for path in tiny.files(tmp_path)["train"].paths]
    for one in torch.cat([batch.inputs for batch in without]):
        assert any(torch.equal(one, other) for other in prepared)


def test_what_is_random_in_files_follows_from_seed_epoch_and_image(tmp_path: Path) -> None:
    transforms = Transforms(COLOUR, RandomResizedCrop(), (Flip(),))
    one, same, later = (read(tmp_path, transforms, epoch=epoch) for epoch in (1, 1, 2))
    assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(one, same, strict=True))
    assert not torch.equal(one[0].inputs, later[0].inputs)
    whole = torch.cat([batch.inputs for batch in one])
    halves = [read(tmp_path, transforms, world=World(rank=rank, size=2)) for rank in (0, 1)]
    for rank, half in enumerate(halves):
        assert torch.equal(torch.cat([batch.inputs for batch in half]), whole[rank::2])


def test_processes_read_the_same(tmp_path: Path) -> None:
    transforms = Transforms(COLOUR, RandomResizedCrop())
    images = tiny.files(tmp_path)["train"]
    feed = loader(images, transforms, ALONE, workers=1)
    for epoch in (1, 2):
        expected = read(tmp_path, transforms, epoch=epoch)
        found = list(feed.epoch(Plan(len(images), 4, 0, epoch, ALONE)))
        assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(found, expected, strict=True))
    Path(images.paths[0]).write_bytes(b"nothing")
    with pytest.raises(cnnzoo.DataError, match=r"^open_image: \S+ is not an image that PIL knows$"):
        list(feed.epoch(Plan(len(images), 4, 0, 3, ALONE)))


def test_damaged_image_is_named(tmp_path: Path) -> None:
    tiny.write_folder(tmp_path)
    (tmp_path / "train" / "red" / "2.png").write_bytes(b"nothing")
    with pytest.raises(cnnzoo.DataError, match=r"red/2\.png is not an image that PIL knows"):
        read(tmp_path, Transforms(COLOUR))


@pytest.mark.parametrize("size", [1, 2])
def test_fresh_images_in_every_epoch(size: int) -> None:
    captcha = Captcha(width=60, height=30)
    transforms = Transforms(Preprocessing(size=(30, 60), mean=0.0, std=1.0))
    sequence = DrawnCaptchas(captcha, "train").take(range(20))
    expected = transforms.preprocessing.transforms()(sequence.images)
    for rank in range(size):
        world = World(rank=rank, size=size)
        split = FreshCaptchas(10, DrawnCaptchas(captcha, "train"))
        feed = loader(split, transforms, world)
        for epoch in (1, 2):
            plan = Plan(10, 4, 0, epoch, world, last=epoch == 2)
            own = plan.order[:8][rank::size].tolist() + plan.order[8:][rank::size].tolist()
            found = torch.cat([batch.inputs for batch in feed.epoch(plan)])
            assert torch.equal(found, expected[[10 * (epoch - 1) + row for row in own]])
            assert (split.begun is None) == plan.last  # what nobody will see is not drawn
