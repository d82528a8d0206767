"""Images as a person sees them: every mode, depth and orientation, on every path by which an image is opened."""

import io
import json
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image, ImageOps, features
from test_cli import fine, run
from torchvision.datasets import ImageFolder

import cnnzoo
from cnnzoo.cli import main
from cnnzoo.data import LargeImageWarning, Preprocessing, find_digits, image_folder, open_image, samples
from cnnzoo.training.batches import Asked, Read

RAMP = np.arange(256, dtype=np.uint16).reshape(16, 16)
PLAIN = Preprocessing(channels=1, size=16, mean=0.0, std=1.0)
COLOUR = Preprocessing(channels=3, size=16, mean=0.0, std=1.0)

DEEP = {
    "I;16": lambda: Image.fromarray(RAMP * 257),
    "I;16B": lambda: Image.frombytes("I;16B", (16, 16), (RAMP * 257).astype(">u2").tobytes()),
    "I of 16 bits": lambda: Image.fromarray(RAMP.astype(np.int32) * 257),
    "I of 8 bits": lambda: Image.fromarray(RAMP.astype(np.int32)),
    "F": lambda: Image.fromarray((RAMP / 255).astype(np.float32)),
}
"""The same ramp of 256 greys in all modes of more than eight bits."""


def values(image: Image.Image) -> list[int]:
    return np.asarray(image).ravel().tolist()


def pgm(path: Path, white: int) -> None:
    """As other programs write grey images of more than eight bits."""
    path.write_bytes(b"P5 16 16 %d\n" % white + np.rint(RAMP / 255 * white).astype(">u2").tobytes())


def tiff(path: Path, mode: str, *, white_is_zero: bool = False) -> None:
    image = DEEP[mode]()
    if white_is_zero:
        image = Image.fromarray((1 - RAMP / 255).astype(np.float32) if mode == "F" else (255 - RAMP) * 257)
    image.save(path, tiffinfo={262: 0 if white_is_zero else 1})


FILES = {
    "png-16": lambda path: DEEP["I;16"]().save(path.with_suffix(".png")),
    "tiff-16": lambda path: tiff(path.with_suffix(".tif"), "I;16"),
    "tiff-16-white-is-zero": lambda path: tiff(path.with_suffix(".tif"), "I;16", white_is_zero=True),
    "tiff-32": lambda path: tiff(path.with_suffix(".tif"), "I of 16 bits"),
    "tiff-float": lambda path: tiff(path.with_suffix(".tif"), "F"),
    "tiff-float-white-is-zero": lambda path: tiff(path.with_suffix(".tif"), "F", white_is_zero=True),
    "pgm-8": lambda path: Image.fromarray(RAMP.astype(np.uint8)).save(path.with_suffix(".pgm")),
    "pgm-12": lambda path: pgm(path.with_suffix(".pgm"), 4095),
    "pgm-16": lambda path: pgm(path.with_suffix(".pgm"), 65535),
    "png-8": lambda path: Image.fromarray(RAMP.astype(np.uint8)).save(path.with_suffix(".png")),
}


@pytest.mark.parametrize("mode", DEEP)
@pytest.mark.parametrize("preparation", [PLAIN, COLOUR], ids=["grey", "colour"])
def test_transforms_keep_all_greys_of_a_deep_image(mode: str, preparation: Preprocessing) -> None:
    prepared = preparation.transforms()(DEEP[mode]())
    assert (prepared * 255).round().int()[0].flatten().tolist() == list(range(256))
    assert torch.equal(prepared, preparation.transforms()(Image.fromarray(RAMP.astype(np.uint8))))


@pytest.mark.parametrize("form", FILES)
def test_files_of_any_depth_keep_their_greys_on_every_path(form: str, tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / split / "ramp").mkdir(parents=True)
        FILES[form](tmp_path / split / "ramp" / "a")
    (path,) = (tmp_path / "train" / "ramp").iterdir()
    assert values(open_image(path)) == list(range(256))
    # training of cnnzoo's own, torchvision's folder, and features
    (asked,) = image_folder(tmp_path)["train"].paths
    image, _ = Read(PLAIN.framing())[Asked(asked, 0)]
    assert image.flatten().tolist() == list(range(256))
    image, _ = ImageFolder(str(tmp_path / "train"), PLAIN.transforms(), loader=open_image)[0]
    assert (image * 255).round().flatten().tolist() == list(range(256))
    model = cnnzoo.load_pretrained("lenet5")
    table = cnnzoo.save_features(model, tmp_path / "train", tmp_path / "t.safetensors", workers=0, progress=False)
    flat = Image.fromarray(RAMP.astype(np.uint8))
    expected = cnnzoo.features(model)(model.checkpoint.transforms()(flat)[None])
    torch.testing.assert_close(table.features, expected)
    (said,) = json.loads(fine("predict", path, "--model", "lenet5.fashion_mnist", "--json"))
    fashion = cnnzoo.load_pretrained("lenet5.fashion_mnist")
    assert said["classes"][0]["score"] == pytest.approx(cnnzoo.classify(fashion, [flat])[0][0].score, abs=1e-4)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (RAMP.astype(np.int32) * 70_000, r"mode I and holds values from 0 to 1\.785e\+07, expected from 0 to 65,535; "),
        (RAMP.astype(np.int32) - 1, r"mode I and holds values from -1 to 254, expected from 0 to 255; scale them to"),
        (RAMP.astype(np.float32), r"mode F and holds values from 0 to 255, expected from 0 to 1; scale them to 0 to 255 and"),
        (np.full((16, 16), np.nan, np.float32), r"mode F and holds values from nan to nan, expected from 0 to 1"),
    ],
)  # fmt: skip
def test_numbers_that_say_nothing_of_black_and_white_are_refused(tmp_path: Path, array, message: str) -> None:
    Image.fromarray(array).save(tmp_path / "a.tif")
    with pytest.raises(cnnzoo.DataError, match=rf"^open_image: \S+a\.tif is of {message}"):
        open_image(tmp_path / "a.tif")
    with pytest.raises(cnnzoo.DataError, match=rf"the image is of {message}"):
        PLAIN.transforms()(Image.fromarray(array))
    result = run("predict", tmp_path / "a.tif")
    assert result.exit_code == 1
    assert f"left out: {tmp_path / 'a.tif'} is of mode" in result.stderr


def test_signed_values_are_refused() -> None:
    image = Image.fromarray(RAMP.astype(np.int32))
    vars(image)["tag_v2"] = {258: (16,), 339: (2,)}
    with pytest.raises(cnnzoo.DataError, match="holds signed values of 16 bits, which say nothing of black and white"):
        PLAIN.transforms()(image)


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "LA", "La", "PA", "RGBX", "RGBa"]
)
@pytest.mark.parametrize("preparation", [PLAIN, COLOUR], ids=["grey", "colour"])
def test_every_other_mode_is_prepared(mode: str, preparation: Preprocessing) -> None:
    assert preparation.transforms()(Image.new(mode, (20, 30))).shape == preparation.input_shape


@pytest.mark.parametrize("preparation", [PLAIN, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("kind", [torch.uint8, torch.uint16, torch.float32, torch.float64])
def test_tensors_of_every_kind_that_says_what_white_is(kind: torch.dtype, preparation: Preprocessing) -> None:
    ramp = torch.arange(256).view(1, 16, 16).expand(preparation.channels, -1, -1)
    given = ramp / 255 if kind.is_floating_point else ramp * (257 if kind == torch.uint16 else 1)
    prepared = preparation.transforms()(given.to(kind))
    assert (prepared[0] * 255).round().flatten().tolist() == list(range(256))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        *(
            (torch.zeros(1, 4, 4, dtype=kind), rf"got a tensor of {kind}, which says nothing of black and white")
            for kind in (torch.int8, torch.int16, torch.int32, torch.int64, torch.bool)
        ),
        (torch.full((1, 4, 4), 200.0), r"values from 200 to 200, expected 0 \(black\) to 1 \(white\)"),
        (torch.full((1, 4, 4), torch.nan), "values from nan to nan"),
        (RAMP, r"got ndarray; expected a PIL image or a tensor .*fromarray"),
    ],
)
def test_other_numbers_are_refused_by_the_transforms(given, message: str) -> None:
    with pytest.raises(cnnzoo.DataError, match=message):
        PLAIN.transforms()(given)


# Orientation ---------------------------------------------------------------------------------------------------------


def held(upright: Image.Image, orientation: int) -> Image.Image:
    """An image as the sensor sees it, where a camera held that way would say so."""
    back = {
        1: (),
        2: (Image.Transpose.FLIP_LEFT_RIGHT,),
        3: (Image.Transpose.ROTATE_180,),
        4: (Image.Transpose.FLIP_TOP_BOTTOM,),
        5: (Image.Transpose.TRANSPOSE,),
        6: (Image.Transpose.ROTATE_90,),
        7: (Image.Transpose.TRANSVERSE,),
        8: (Image.Transpose.ROTATE_270,),
    }
    for step in back[orientation]:
        upright = upright.transpose(step)
    return upright


CONTAINERS = [end for end, needs in ((".jpg", None), (".png", None), (".tif", None), (".webp", "webp")) if not needs or features.check(needs)]  # fmt: skip


def saved(image: Image.Image, path: Path, orientation: int) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif, **({"lossless": True} if path.suffix == ".webp" else {}))
    return path


def upright_boot() -> Image.Image:
    """Not square, so that one on its side has another size as well."""
    return ImageOps.expand(samples("fashion_mnist")[9].image.convert("RGB"), (0, 0, 4, 0))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("end", CONTAINERS)
def test_images_are_turned_as_the_camera_was_held(tmp_path: Path, orientation: int, end: str) -> None:
    boot = upright_boot()
    path = saved(held(boot, orientation), tmp_path / f"a{end}", orientation)
    opened = open_image(path)
    assert opened.size == boot.size
    close = np.abs(np.asarray(opened.convert("L"), float) - np.asarray(boot.convert("L"), float)).mean()
    assert close < 4  # JPEG changes values, a turn would change them by 60
    # not only what cnnzoo opened itself
    prepare = PLAIN.transforms()
    torch.testing.assert_close(prepare(Image.open(path)), prepare(opened))
    torch.testing.assert_close(prepare(Image.open(path).convert("RGB")), prepare(opened))


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_every_path_turns_them(tmp_path: Path, orientation: int) -> None:
    boot = upright_boot()
    path = tmp_path / "train" / "boot" / "a.png"
    path.parent.mkdir(parents=True)
    saved(held(boot, orientation), path, orientation)
    model = cnnzoo.load_pretrained("lenet5.fashion_mnist")
    expected = model(model.checkpoint.transforms()(boot)[None])[0].max().item()
    (said,) = json.loads(fine("predict", path, "--model", "lenet5.fashion_mnist", "--json"))
    assert said["classes"][0]["label"] == "Ankle boot"
    assert said["classes"][0]["score"] == pytest.approx(expected, abs=1e-4)
    assert cnnzoo.classify(model, [Image.open(path)])[0][0].score == pytest.approx(expected, abs=1e-4)
    table = cnnzoo.save_features(model, tmp_path / "train", tmp_path / "t.safetensors", workers=0, progress=False)
    torch.testing.assert_close(table.features, cnnzoo.features(model)(model.checkpoint.transforms()(boot)[None]))
    image, _ = Read(PLAIN.framing())[Asked(str(path), 0)]
    again, _ = ImageFolder(str(tmp_path / "train"), PLAIN.transforms(), loader=open_image)[0]
    torch.testing.assert_close(image.float() / 255, again)
    assert torch.equal(again, PLAIN.transforms()(boot))
    fine("see", "saliency", path, "--model", "lenet5.fashion_mnist", "--out", tmp_path / "seen.png")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_digits_are_turned_once(tmp_path: Path, orientation: int) -> None:
    seven = ImageOps.invert(ImageOps.expand(samples()[7].image, 40)).resize((216, 216))
    path = saved(held(seven, orientation), tmp_path / "seven.png", orientation)
    for image in (Image.open(path), open_image(path)):
        (digit,) = find_digits(image)
        assert cnnzoo.classify(cnnzoo.load_pretrained("lenet5"), [digit])[0][0].label == "7"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["I;16", "F", "I of 16 bits"])
def test_deep_images_are_turned_too(tmp_path: Path, orientation: int, mode: str) -> None:
    path = saved(held(DEEP[mode](), orientation), tmp_path / "a.tif", orientation)
    assert values(open_image(path)) == list(range(256))


@pytest.mark.parametrize("orientation", [0, 9, 60_000])
def test_an_orientation_that_does_not_exist_is_left_alone(tmp_path: Path, orientation) -> None:
    path = saved(Image.new("L", (3, 5)), tmp_path / "a.png", orientation)
    assert open_image(path).size == (3, 5)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_damaged_exif_block_does_not_lose_the_image(tmp_path: Path) -> None:
    Image.new("L", (3, 5)).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    assert open_image(tmp_path / "a.jpg").size == (3, 5)
    Image.new("L", (3, 5)).save(tmp_path / "b.jpg", exif=b"Exif\0\0nonsense")
    assert open_image(tmp_path / "b.jpg").size == (3, 5)


# Many files ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def mixed(tmp_path: Path) -> SimpleNamespace:
    """A folder with images of two digits in subfolders, a text, an empty file and half a JPEG."""
    folder = tmp_path / "images"
    for number in (1, 7):
        (folder / str(number)).mkdir(parents=True)
        samples()[number].image.save(folder / str(number) / "a.png")
    (folder / "text.png").write_text("not an image")
    (folder / "empty.jpg").write_bytes(b"")
    whole = io.BytesIO()
    Image.effect_noise((64, 64), 80).save(whole, "JPEG")
    (folder / "half.jpg").write_bytes(whole.getvalue()[:900])
    return SimpleNamespace(folder=folder, bad=("text.png", "empty.jpg", "half.jpg"))


@pytest.mark.parametrize("more", [(), ("--workers", "2", "--batch-size", "2"), ("--batch-size", "1", "--workers", "0")])
def test_predict_answers_for_what_it_can_read(mixed: SimpleNamespace, more: tuple[str, ...]) -> None:
    result = run("predict", mixed.folder, "nosuch.png", "--json", *more)
    assert result.exit_code == 1
    said = {one["file"]: one for one in json.loads(result.stdout)}
    assert len(said) == 6
    for number in (1, 7):
        assert said[str(mixed.folder / str(number) / "a.png")]["classes"][0]["label"] == str(number)
    for name in (*(str(mixed.folder / one) for one in mixed.bad), "nosuch.png"):
        assert "classes" not in said[name]
        assert name in said[name]["error"]
        assert f"left out: {said[name]['error']}" in result.stderr
    assert "there is no file nosuch.png" in result.stderr


def test_predict_names_files_in_a_table_and_the_rest_below(mixed: SimpleNamespace) -> None:
    result = run("predict", mixed.folder / "1" / "a.png", mixed.folder / "text.png", mixed.folder / "7" / "a.png")
    assert result.exit_code == 1
    assert "7" in result.stdout
    assert "text.png is not an image that PIL knows" in result.stderr
    assert "text.png" not in result.stdout
    assert run("predict", mixed.folder, "--strict").exit_code == 2
    fine("predict", mixed.folder / "1" / "a.png", mixed.folder / "7")


def test_predict_leaves_out_an_image_without_a_digit(tmp_path: Path) -> None:
    Image.new("L", (60, 60), 200).save(tmp_path / "blank.png")
    samples()[3].image.save(tmp_path / "three.png")
    result = run("predict", tmp_path / "blank.png", tmp_path / "three.png", "--json")
    assert result.exit_code == 1
    blank, three = json.loads(result.stdout)
    assert "blank.png stands out from its ground" in blank["error"]
    assert three["classes"][0]["label"] == "3"


def test_predict_reads_a_pipe(tmp_path: Path) -> None:
    samples()[4].image.save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    for given, code in ((content, 0), (b"", 1), (b"nothing", 1)):
        result = CliRunner().invoke(main, ["predict", "-", "--json"], input=given)
        assert result.exit_code == code
        (said,) = json.loads(result.stdout)
        assert said["file"] == "-"
        assert ("classes" in said) == (code == 0)


def test_predict_takes_the_choices_of_features() -> None:
    known = {name: {one.name for one in main.commands[name].params} for name in ("predict", "features")}
    assert known["features"] - known["predict"] == {"folder", "layers", "out"}


def test_predict_prepares_as_for_published_weights(tmp_path: Path) -> None:
    model = cnnzoo.load_pretrained("lenet5.fashion_mnist")
    torch.save(model.state_dict(), tmp_path / "mine.pth")
    samples("fashion_mnist")[9].image.save(tmp_path / "boot.png")
    own = ("predict", tmp_path / "boot.png", "--model", "lenet5", "--checkpoint", tmp_path / "mine.pth", "--json")
    (said,) = json.loads(fine(*own, "--transforms", "fashion_mnist"))
    (known,) = json.loads(fine("predict", tmp_path / "boot.png", "--model", "lenet5.fashion_mnist", "--json"))
    assert said == known
    (half,) = json.loads(fine(*own, "--transforms", "fashion_mnist", "--dtype", "bfloat16"))
    assert half["classes"][0]["label"] == "Ankle boot"
    assert half != known


# Large images --------------------------------------------------------------------------------------------------------


def test_a_large_image_is_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples()[7].image.save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.warns(LargeImageWarning, match=r"a\.png has 28 x 28 pixels; reading it takes long, and a smaller copy"):
        assert open_image(tmp_path / "a.png").size == (28, 28)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(
        cnnzoo.DataError, match=r"a\.png has more than 200 pixels, which may be meant to fill the memory"
    ):
        open_image(tmp_path / "a.png")


def test_a_warning_on_the_command_line_is_one_line(tmp_path: Path) -> None:
    samples()[7].image.save(tmp_path / "a.png")
    program = (
        "from PIL import Image; Image.MAX_IMAGE_PIXELS = 500; from cnnzoo.cli import main; "
        f"main(['predict', {str(tmp_path / 'a.png')!r}, '--top', '1'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.startswith(f"warning: {tmp_path / 'a.png'} has 28 x 28 pixels")
    assert done.stderr.count("\n") == 1


def test_what_pillow_says_otherwise_still_arrives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples()[7].image.save(tmp_path / "a.png")
    load = Image.Image.load

    def complaining(self):
        warnings.warn("something else", UserWarning, stacklevel=2)
        return load(self)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", complaining)
        with pytest.warns(UserWarning, match="something else"):
            open_image(tmp_path / "a.png")


def test_grey_images_are_normalised_by_the_averages_of_three_colours() -> None:
    """By default too: three averages would make three channels of one."""
    prepared = Preprocessing(channels=1, size=28)
    assert prepared.mean == pytest.approx(sum(Preprocessing().mean) / 3)
    assert prepared.transforms()(Image.new("L", (40, 30), 128)).shape == (1, 28, 28)


@pytest.mark.parametrize(("name", "channels", "count"), [("mean", 3, 2), ("std", 3, 1), ("mean", 1, 2), ("std", 4, 3)])
def test_as_many_averages_as_channels(name: str, channels: int, count: int) -> None:
    given = {"mean": 0.5, "std": 0.5, name: (0.5,) * count}
    with pytest.raises(
        cnnzoo.OptionError,
        match=rf"^Preprocessing: got {name} of {count} numbers for {channels} channels; give one for each channel",
    ):
        Preprocessing(channels=channels, **given)
