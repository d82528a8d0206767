"""The table of published checkpoints, beside what torchvision and timm say of theirs, and their preprocessing."""

import math
import re
import warnings
from dataclasses import replace

import pytest
import timm
import torch
from timm.data import ImageNetInfo, create_transform, resolve_data_config
from torchvision import models
from torchvision.transforms.functional import pil_to_tensor, to_pil_image

import cnnzoo
from cnnzoo.checkpoints.layouts import TABLES
from cnnzoo.checkpoints.table import Checkpoint, list_checkpoints
from cnnzoo.data.image_files import class_names
from cnnzoo.data.preprocessing import Preprocessing
from cnnzoo.support.files import read_table

Row = tuple[str, Checkpoint]
ROWS: list[Row] = [(name, one) for name in cnnzoo.list_models(pretrained=True) for one in list_checkpoints(name)]
HUB = [row for row in ROWS if row[1].source == "hub"]
TORCHVISION = [row for row in ROWS if row[1].source == "torchvision"]
LICENSES = {"MIT", "apache-2.0", "bsd-3-clause", "cc-by-nc-4.0"}
NORMALISES_AGAIN = {"googlenet": models.googlenet, "inception_v3": models.inception_v3}


def each(rows: list[Row]):
    return pytest.mark.parametrize(("name", "one"), rows, ids=[f"{name}.{one.tag}" for name, one in rows])


def each_preprocessing(rows: list[Row]):
    """One row for each way of preprocessing, and both kinds of torchvision's inputs."""
    kinds = {(one.preprocessing, name in NORMALISES_AGAIN): (name, one) for name, one in reversed(rows)}
    return each(list(kinds.values()))


def timm_name(name: str) -> str:
    return name.replace("preresnet", "resnetv2_")


def per_channel(value: float | tuple[float, ...]) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,) * 3


def test_table_lists_networks_and_the_registry_reads_it() -> None:
    names = read_table("checkpoints/table.toml").keys() - {"defaults"}
    assert names == set(cnnzoo.list_models(pretrained=True))
    assert not names & set(cnnzoo.list_models(pretrained=False))
    for name in names:
        tags = [one.tag for one in list_checkpoints(name)]
        assert len(set(tags)) == len(tags)
        assert cnnzoo.spec(name).checkpoints == tuple(tags)


@each(ROWS)
def test_row_is_well_formed(name: str, one: Checkpoint) -> None:
    assert re.fullmatch(r"[a-z0-9_]+", one.tag)
    assert one.data
    assert one.license in LICENSES or "licence" in one.card
    assert not one.card or one.card.endswith(".")
    stated = {field for field in ("repo", "weights", "recipe") if getattr(one, field)}
    assert stated == {{"hub": "repo", "torchvision": "weights", "bundled": "recipe"}[one.source]}
    assert re.fullmatch({"hub": r"|[0-9a-f]{64}", "torchvision": r"[0-9a-f]{8}"}.get(one.source, r".{64}"), one.sha256)
    assert re.fullmatch(r"|[0-9a-f]{40}", one.revision)
    assert one.size_mb is None or one.size_mb > 0


@each(ROWS)
def test_network_takes_the_options_and_gives_the_scores(name: str, one: Checkpoint) -> None:
    spec = cnnzoo.spec(name)
    spec.check(one.options)
    model = cnnzoo.create(spec.name, device="meta", **one.options)
    reads = isinstance(model, cnnzoo.CaptchaCNN)  # whose scores are characters at positions
    assert len(one.classes) == (0 if reads else model.num_classes)
    assert (one.accuracy is not None) == (reads or bool(one.classes))
    assert one.accuracy is None or 0.5 < one.accuracy < 1
    assert one.preprocessing.channels == model.input_shape[0]
    if one.layout != "cnnzoo":
        assert name in TABLES[one.layout]
        assert not model.config.classic
        assert set(one.options) <= {"num_classes"}  # what their constructors build by default


@each(TORCHVISION)
def test_torchvision_says_the_same(name: str, one: Checkpoint) -> None:
    theirs = models.get_weight(one.weights)
    assert theirs in models.get_model_weights(name)
    assert one.tag == theirs.name.lower()
    assert one.layout == "torchvision"
    assert theirs.url.endswith(f"/{one.file}")
    assert one.file.endswith(f"-{one.sha256}.pth")
    assert one.size_mb == theirs.meta["_file_size"]
    accuracy = theirs.meta["_metrics"]["ImageNet-1K"]["acc@1"] / 100
    assert math.isnan(accuracy) if one.accuracy is None else one.accuracy == pytest.approx(accuracy)
    assert one.classes == tuple(theirs.meta["categories"] or ())


@each(HUB)
def test_timm_says_the_same(name: str, one: Checkpoint) -> None:
    theirs = timm.get_pretrained_cfg(f"{timm_name(name)}.{one.tag}")
    assert theirs.hf_hub_id == one.repo
    assert one.layout == "timm"
    assert one.license == (theirs.license or "")
    assert theirs.num_classes == one.options.get("num_classes", 1000)
    assert not theirs.label_offset
    ours = one.preprocessing
    assert theirs.input_size == (ours.channels, ours.size, ours.size)
    assert theirs.crop_mode == "center"
    assert ours.resize == math.floor(ours.size / theirs.crop_pct)
    assert ours.interpolation == theirs.interpolation
    assert (per_channel(ours.mean), per_channel(ours.std)) == (theirs.mean, theirs.std)


@pytest.mark.parametrize("name", sorted({name for name, _ in HUB + TORCHVISION}))
def test_all_that_is_published_is_there_and_the_default_comes_first(name: str) -> None:
    rows = list_checkpoints(name)
    tags = {source: {one.tag for one in rows if one.source == source} for source in ("hub", "torchvision")}
    if name in TABLES["timm"]:
        assert tags["hub"] == {full.partition(".")[2] for full in timm.list_pretrained(f"{timm_name(name)}.*")}
        assert rows[0].tag == timm.get_pretrained_cfg(timm_name(name)).tag
    if name in TABLES["torchvision"]:
        theirs = models.get_model_weights(name)
        assert tags["torchvision"] == {weights.name.lower() for weights in theirs}
        first = next(one for one in rows if one.source == "torchvision")
        assert first.tag == theirs.DEFAULT.name.lower()
        assert first == rows[0] or tags["hub"]


@pytest.fixture(scope="module")
def image():
    """Noise, wider than high, with sides that no step divides."""
    noise = torch.randint(256, (3, 301, 407), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return to_pil_image(noise)


def rounding(preprocessing: Preprocessing) -> float:
    """What the two roundings of a number up to 1, from 0 to 255 and less the mean, grow to in the division by `std`.

    The bytes before them must be equal: one more or less is a difference of 1 / 255 / std, thousands of times that.
    """
    return 2 * torch.finfo(torch.float32).eps / min(per_channel(preprocessing.std))


@each_preprocessing(TORCHVISION)
def test_preprocessing_is_torchvisions(name: str, one: Checkpoint, image) -> None:
    theirs = models.get_weight(one.weights).transforms()(image)
    if name in NORMALISES_AGAIN:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it announces how it will initialise one day
            network = NORMALISES_AGAIN[name](transform_input=True, init_weights=False)
        theirs = network._transform_input(theirs[None])[0]
    ours = one.transforms()(image)
    assert type(ours) is torch.Tensor
    torch.testing.assert_close(ours, theirs, rtol=0, atol=rounding(one.preprocessing))


@each_preprocessing(TORCHVISION)
def test_preprocessing_of_tensors_is_within_a_byte_of_that_of_images(name: str, one: Checkpoint, image) -> None:
    """They are resized by torch, whose bytes are now and then one more or less than PIL's."""
    images = pil_to_tensor(image).repeat(2, 1, 1, 1)
    prepared, byte = one.transforms()(images), 1.001 / 255 / min(per_channel(one.preprocessing.std))
    torch.testing.assert_close(prepared[1], one.transforms()(image), rtol=0, atol=byte)


@pytest.mark.parametrize("version", ["V1", "V2"])
def test_preprocessing_of_resnet50_to_a_millionth(version: str, image) -> None:
    ours = next(one for one in list_checkpoints("resnet50") if one.weights == f"ResNet50_Weights.IMAGENET1K_{version}")
    theirs = models.get_weight(ours.weights).transforms()
    torch.testing.assert_close(ours.transforms()(image), theirs(image), rtol=0, atol=1e-6)


@each_preprocessing(HUB)
def test_preprocessing_is_timms(name: str, one: Checkpoint, image) -> None:
    stated = timm.get_pretrained_cfg(f"{timm_name(name)}.{one.tag}").to_dict()
    theirs = create_transform(**resolve_data_config(pretrained_cfg=stated), is_training=False)(image)
    torch.testing.assert_close(one.transforms()(image), theirs, rtol=0, atol=rounding(one.preprocessing))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1"])
def test_images_of_any_mode_are_taken_as_colours(mode: str, image) -> None:
    prepare = Preprocessing(size=40, resize=48).transforms()
    given = image.convert(mode)
    torch.testing.assert_close(prepare(given), prepare(given.convert("RGB")))


def test_image_smaller_than_the_crop_is_enlarged() -> None:
    tiny = to_pil_image(torch.full((3, 2, 5), 255, dtype=torch.uint8))
    prepared = Preprocessing(resize=256, mean=0.0, std=1.0).transforms()(tiny)
    assert torch.equal(prepared, torch.ones(3, 224, 224))


def test_statistics_are_for_all_channels_or_for_each() -> None:
    listed = Preprocessing(mean=[0.5, 0.5, 0.5], std=[0.25, 0.25, 0.25])  # as TOML and JSON have them
    assert listed == Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    assert hash(listed) == hash(replace(listed))
    black = to_pil_image(torch.zeros(3, 8, 8, dtype=torch.uint8))
    for preprocessing in (listed, Preprocessing(mean=0.5, std=0.25)):
        assert torch.equal(preprocessing.transforms()(black), torch.full((3, 224, 224), -2.0))


def test_interpolation_that_no_checkpoint_has() -> None:
    with pytest.raises(cnnzoo.UnknownNameError, match=r"Preprocessing: unknown interpolation 'cubic'.*'bicubic'"):
        Preprocessing(interpolation="cubic")


def test_names_of_the_classes_of_imagenet_are_in_timms_order_too() -> None:
    ours, theirs = class_names("imagenet1k"), ImageNetInfo("imagenet-1k").label_descriptions()
    assert len(ours) == len(theirs) == 1000
    # torchvision tells apart what WordNet gives one name: crane the bird from the machine, for one.
    differing = [pair for pair in zip(ours, theirs, strict=True) if pair[0] not in pair[1]]
    assert len(differing) <= 10, differing


def test_names_of_classes_that_no_list_has() -> None:
    with pytest.raises(cnnzoo.UnknownNameError, match=r"unknown list of classes 'imagenet': did you mean 'imagenet1k'"):
        class_names("imagenet")


def test_names_of_no_classes() -> None:
    assert class_names("") == ()
    assert replace(list_checkpoints("resnet18")[0], class_set=("cat", "dog")).classes == ("cat", "dog")
