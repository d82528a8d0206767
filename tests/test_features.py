"""Tables of the features of a folder's images: what is in them, going on after a stop, and sharing the work."""

import itertools
import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from torchvision.transforms import v2

import cnnzoo
from cnnzoo.data.image_files import open_image
from cnnzoo.extraction.tables.parts import Parts
from cnnzoo.extraction.tables.table import Column, encoded, write_stream
from cnnzoo.shapes.probe import ShapeProbe

CLASSES = ["bag", "boot", "coat"]


def draw(path: Path, seed: int, size: tuple[int, int] = (28, 28)) -> None:
    """A random grey image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = torch.randint(256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    Image.fromarray(pixels.numpy()).save(path)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Ten images in each of three classes."""
    for number, (name, i) in enumerate(itertools.product(CLASSES, range(10))):
        draw(tmp_path / "images" / name / f"{i}.png", number)
    return tmp_path / "images"


@pytest.fixture
def lenet() -> cnnzoo.CNN:
    return cnnzoo.load_pretrained("lenet5")


def save(model: cnnzoo.CNN, folder: Path, path: Path, *layers: str, **options) -> cnnzoo.FeatureTable:
    """In parts of four images and batches of three, in this process."""
    return cnnzoo.save_features(
        model, folder, path, *layers, **{"part_size": 4, "batch_size": 3, "workers": 0, "progress": False} | options
    )


def direct(model: cnnzoo.CNN, folder: Path, files: list[str], *layers: str) -> Tensor:
    """The same features, one image at a time."""
    prepare, extractor = model.checkpoint.transforms(), cnnzoo.features(model, *layers).eval()
    with torch.inference_mode():
        return torch.cat([extractor(prepare(open_image(folder / file)).unsqueeze(0)) for file in files])


# What is in a table


def test_a_row_for_each_image(lenet: cnnzoo.CNN, images: Path, tmp_path: Path) -> None:
    table = save(lenet, images, tmp_path / "t.safetensors", "f6")
    assert table.files == [f"{name}/{i}.png" for name in CLASSES for i in range(10)]
    assert table.classes == CLASSES
    assert table.labels.tolist() == [0] * 10 + [1] * 10 + [2] * 10
    assert len(table) == 30
    assert table.features.shape == (30, 84)
    torch.testing.assert_close(table.features, direct(lenet, images, table.files, "f6"))
    assert (table.model, table.layers, table.skipped) == ("lenet5", ("f6",), {})
    assert table.origin["checkpoint"] == "mnist"
    assert repr(table) == "FeatureTable(30 images x 84 features of lenet5)"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "t.safetensors"]


def test_several_layers_stand_side_by_side(lenet: cnnzoo.CNN, images: Path, tmp_path: Path) -> None:
    table = save(lenet, images, tmp_path / "t.safetensors", "s4", "f6")
    assert table.features.shape == (30, 16 + 84)
    torch.testing.assert_close(table.features, direct(lenet, images, table.files, "s4", "f6"))


def test_without_layers_what_the_classifier_sees(lenet: cnnzoo.CNN, images: Path, tmp_path: Path) -> None:
    table = save(lenet, images, tmp_path / "t.safetensors")
    assert table.layers == ()
    scores = table.features @ lenet.output.weight.T + lenet.output.bias
    inputs = torch.stack([lenet.checkpoint.transforms()(open_image(images / file)) for file in table.files])
    torch.testing.assert_close(scores, lenet(inputs))


def test_other_libraries_read_it(lenet: cnnzoo.CNN, images: Path, tmp_path: Path) -> None:
    table = save(lenet, images, tmp_path / "t.safetensors", "f6")
    tensors = load_file(tmp_path / "t.safetensors")
    assert torch.equal(tensors["features"], table.features)
    assert torch.equal(tensors["labels"], table.labels)
    assert json.loads(tensors["files"].numpy().tobytes()) == table.files
    assert (tmp_path / "t.safetensors").stat().st_mode & 0o600 == 0o600


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_features_have_the_networks_dtype(dtype: torch.dtype, images: Path, tmp_path: Path) -> None:
    model = cnnzoo.load_pretrained("lenet5", dtype=dtype)
    table = save(model, images, tmp_path / "t.safetensors", "c5")
    assert table.features.dtype == dtype
    exact = direct(cnnzoo.load_pretrained("lenet5"), images, table.files, "c5")
    torch.testing.assert_close(table.features.float(), exact, rtol=0.05, atol=0.05)


def test_a_flat_folder_has_no_labels(lenet: cnnzoo.CNN, images: Path, tmp_path: Path) -> None:
    table = save(lenet, images / "bag", tmp_path / "t.safetensors", "f6")
    assert table.files == [f"{i}.png" for i in range(10)]
    assert (table.labels, table.classes) == (None, [])


def test_what_counts_as_a_image_and_as_a_class(lenet: cnnzoo.CNN, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    names = ["a b/1.png", "a/1.png", "a/deep/er/2.PNG", "stray.png", "zoë/1.png", "line\nbreak/1.png"]
    for name in (*names, ".hidden/1.png", "a/._1.png"):
        draw(folder / name, 0)
    (folder / "empty").mkdir()
    (folder / "a" / "notes.txt").write_text("no image")
    (folder / "linked").symlink_to(folder / "zoë")
    table = save(lenet, folder, tmp_path / "t.safetensors", "f6")
    assert table.files == sorted([*names, "linked/1.png"], key=lambda name: name.split("/"))
    assert table.classes == ["a", "a b", "line\nbreak", "linked", "zoë"]
    assert dict(zip(table.files, table.labels.tolist(), strict=True)) == {
        "a/1.png": 0,
        "a/deep/er/2.PNG": 0,
        "a b/1.png": 1,
        "line\nbreak/1.png": 2,
        "linked/1.png": 3,
        "stray.png": -1,
        "zoë/1.png": 4,
    }


def test_names_that_are_not_text(lenet: cnnzoo.CNN, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")  # Latin-1
    draw(tmp_path / "images" / "a" / "1.png", 0)
    try:
        (tmp_path / "images" / "a" / "1.png").rename(tmp_path / "images" / "a" / name)
    except OSError:
        pytest.skip("this file system takes text only")
    table = save(lenet, tmp_path / "images", tmp_path / "t.safetensors", "f6")
    assert (tmp_path / "images" / table.files[0]).is_file()


def test_the_classes_are_image_folders(lenet: cnnzoo.CNN, images: Path, tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    theirs = ImageFolder(str(images))
    table = save(lenet, images, tmp_path / "t.safetensors", "f6")
    assert theirs.classes == table.classes
    labels = {str(Path(path).relative_to(images)): label for path, label in theirs.samples}
    assert dict(zip(table.files, table.labels.tolist(), strict=True)) == labels


def test_own_transforms(images: Path, tmp_path: Path) -> None:
    model = cnnzoo.create("lenet5", seed=0).eval()
    prepare = v2.Compose([v2.Grayscale(), v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.ToPureTensor()])
    table = save(model, images, tmp_path / "t.safetensors", "f6", transforms=prepare)
    inputs = torch.stack([prepare(open_image(images / file)) for file in table.files])
    torch.testing.assert_close(table.features, cnnzoo.features(model, "f6").eval()(inputs))


def test_workers_give_the_same_file(lenet: cnnzoo.CNN, images: Path, tmp_path: Path) -> None:
    (images / "boot" / "4.png").write_bytes(b"")
    save(lenet, images, tmp_path / "here.safetensors", "f6")
    save(lenet, images, tmp_path / "there.safetensors", "f6", workers=2)
    assert (tmp_path / "here.safetensors").read_bytes() == (tmp_path / "there.safetensors").read_bytes()


def test_the_header_does_not_grow_with_the_images(tmp_path: Path) -> None:
    """A header of safetensors ends at 100 MB."""
    files = [f"class/{'long ' * 20}{i}.png" for i in range(100_000)]
    write_stream(tmp_path / "t.safetensors", {"files": Column.of(encoded(files))}, {"cnnzoo.features": "{}"})
    assert json.loads(load_file(tmp_path / "t.safetensors")["files"].numpy().tobytes()) == files
    with (tmp_path / "t.safetensors").open("rb") as file:
        assert int.from_bytes(file.read(8), "little") < 1000


def test_a_table_of_pieces_is_what_safetensors_writes(tmp_path: Path) -> None:
    tensors = {"b": torch.arange(3), "a": torch.randn(7, 5), "h": torch.randn(3, 3).half(), "none": torch.empty(0, 4)}
    columns = {name: Column(one.dtype, tuple(one.shape), one.split(2)) for name, one in tensors.items()}
    write_stream(tmp_path / "pieces.safetensors", columns, {"what": "ä"})
    found = load_file(tmp_path / "pieces.safetensors")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) and found[name].dtype == tensors[name].dtype for name in found)


@pytest.mark.cuda
def test_on_a_gpu(images: Path, tmp_path: Path) -> None:
    model = cnnzoo.load_pretrained("lenet5", device="cuda")
    table = save(model, images, tmp_path / "t.safetensors", "f6", workers=2)
    exact = direct(cnnzoo.load_pretrained("lenet5"), images, table.files, "f6")
    torch.testing.assert_close(table.features, exact, rtol=1e-2, atol=1e-2)


# Going on after a stop


class Killed(BaseException):
    """Stands for a signal: nothing catches it."""


def kill_at(monkeypatch: pytest.MonkeyPatch, step: int) -> Callable[[], int]:
    """Ends the run when it is about to make its n-th change on the disk; returns how many changes there were."""
    count = itertools.count(1)
    seen = [0]

    def counted(original: Callable) -> Callable:
        def change(*arguments, **options):
            seen[0] = next(count)
            if seen[0] == step:
                raise Killed
            return original(*arguments, **options)

        return change

    for owner, name in ((os, "fsync"), (Path, "replace"), (Path, "mkdir"), (Path, "write_text"), (Path, "unlink")):
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))
    return lambda: seen[0]


def test_stopped_at_any_step_it_goes_on_to_the_same_file(
    lenet: cnnzoo.CNN, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (images / "boot" / "4.png").write_bytes(b"")
    save(lenet, images, tmp_path / "whole.safetensors", "f6", part_size=8)
    whole = (tmp_path / "whole.safetensors").read_bytes()
    path = tmp_path / "t.safetensors"
    step, steps = 1, 1
    while step <= steps:
        with monkeypatch.context() as patch:
            changes = kill_at(patch, step)
            try:
                save(lenet, images, path, "f6", part_size=8)
                steps = changes()  # it was not killed: there is no such step
            except Killed:
                steps = step + 1
        if steps > step:
            save(lenet, images, path, "f6", part_size=8)
        assert path.read_bytes() == whole, f"killed at step {step}"
        assert sorted(one.name for one in tmp_path.iterdir()) == ["images", "t.safetensors", "whole.safetensors"]
        path.unlink()
        step += 1
    assert step > 20  # four parts, the index, the table, and taking the parts away


KILLED = """
import os, signal, sys
from pathlib import Path
import cnnzoo
from cnnzoo.data import images
from cnnzoo.extraction.tables import batches

class Watched(batches.Images):
    def __getitem__(self, index):
        if index[0][0] >= 20:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)

batches.Images = Watched
cnnzoo.save_features(
    cnnzoo.load_pretrained("lenet5"), *sys.argv[1:], "f6", part_size=4, batch_size=3, workers=0, progress=False
)
"""


def test_a_killed_process_loses_unfinished_parts_only(
    lenet: cnnzoo.CNN, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.safetensors"
    killed = subprocess.run([sys.executable, "-c", KILLED, images, path], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    there = [part.name for part in sorted((tmp_path / "t.safetensors.parts").glob("*.safetensors"))]
    assert there[:3] == [
        "0000000.safetensors",
        "0000001.safetensors",
        "0000002.safetensors",
    ]  # of five, one written aside
    opened = []
    monkeypatch.setattr(
        "cnnzoo.extraction.tables.batches.open_image", lambda path: opened.append(path) or open_image(path)
    )
    table = save(lenet, images, path, "f6")
    assert [str(one.relative_to(images)) for one in opened] == table.files[4 * len(there) :]
    opened.clear()
    save(lenet, images, path, "f6")  # which is finished
    assert opened == []
    save(lenet, images, tmp_path / "whole.safetensors", "f6")
    assert path.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


def unjoined(monkeypatch: pytest.MonkeyPatch, model: cnnzoo.CNN, images: Path, path: Path) -> None:
    """A run that is killed when all parts are there."""

    def killed(*arguments):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Parts, "join", killed)
        with pytest.raises(Killed):
            save(model, images, path, "f6")


@pytest.fixture
def stopped(lenet: cnnzoo.CNN, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table of which all parts are there, and which was not joined."""
    unjoined(monkeypatch, lenet, images, tmp_path / "t.safetensors")
    assert len(list((tmp_path / "t.safetensors.parts").glob("*.safetensors"))) == 8
    return tmp_path / "t.safetensors"


def added(images: Path) -> None:
    draw(images / "bag" / "new.png", 1)


def removed(images: Path) -> None:
    (images / "bag" / "3.png").unlink()


def renamed(images: Path) -> None:
    (images / "bag" / "3.png").rename(images / "bag" / "03.png")


def changed(images: Path) -> None:
    path = images / "bag" / "3.png"
    before = path.stat()
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


@pytest.mark.parametrize("change", [added, removed, renamed, changed])
@pytest.mark.parametrize("finished", [False, True])
def test_other_images_are_refused(
    finished: bool, change: Callable[[Path], None], lenet: cnnzoo.CNN, images: Path, stopped: Path
) -> None:
    if finished:
        save(lenet, images, stopped, "f6")
    change(images)
    place = "t.safetensors" if finished else r"t.safetensors.parts"
    message = rf"{place} is of another run: .*images were added, removed or changed.*, or delete {place}$"
    with pytest.raises(cnnzoo.DataError, match=message):
        save(lenet, images, stopped, "f6")


@pytest.mark.parametrize(
    ("layers", "options", "message"),
    [
        (("c5",), {}, r"layers \['f6'\] there, \['c5'\] here"),
        (("f6",), {"classic": True}, "the network has other weights"),
        (("f6",), {"dtype": torch.float64}, "dtype float32 there, float64 here"),
        (("f6",), {"part_size": 5}, "part_size 4 there, 5 here"),
        (("f6",), {"transforms": v2.ToImage()}, "the images are prepared in another way"),
    ],
)
@pytest.mark.parametrize("finished", [False, True])
def test_another_run_is_refused(
    finished: bool, layers: tuple[str, ...], options: dict, message: str, images: Path, stopped: Path
) -> None:
    if finished:
        save(cnnzoo.load_pretrained("lenet5"), images, stopped, "f6")
    made = {key: options[key] for key in ("classic", "dtype") if key in options}
    asked = {key: options[key] for key in ("part_size", "transforms") if key in options}
    with pytest.raises(cnnzoo.DataError, match=rf"is of another run: .*{message}.*choose another name"):
        save(cnnzoo.load_pretrained("lenet5", **made), images, stopped, *layers, **asked)


def test_other_weights_are_refused(lenet: cnnzoo.CNN, images: Path, stopped: Path) -> None:
    with torch.no_grad():
        lenet.c1.bias[0] += 1e-3
    with pytest.raises(
        cnnzoo.DataError, match=r"is of another run: .*the network has other weights; choose another name"
    ):
        save(lenet, images, stopped, "f6")


def test_a_damaged_part_is_made_again(lenet: cnnzoo.CNN, images: Path, stopped: Path) -> None:
    save(lenet, images, stopped.with_name("whole.safetensors"), "f6")
    parts = sorted(stopped.with_name("t.safetensors.parts").glob("*.safetensors"))
    parts[0].write_bytes(parts[0].read_bytes()[:-1])
    parts[1].write_bytes(b"")
    save_file({"features": torch.zeros(4, 83)}, parts[2], {"skipped": "{}"})
    save_file({"features": torch.zeros(4, 84)}, parts[3])
    save(lenet, images, stopped, "f6")
    assert stopped.read_bytes() == stopped.with_name("whole.safetensors").read_bytes()


def test_another_batch_size_goes_on(lenet: cnnzoo.CNN, images: Path, stopped: Path) -> None:
    """Whoever ran out of memory lowers it."""
    next(stopped.with_name("t.safetensors.parts").glob("*3.safetensors")).unlink()
    table = save(lenet, images, stopped, "f6", batch_size=1)
    torch.testing.assert_close(table.features, direct(lenet, images, table.files, "f6"))


def test_parts_of_nobody_are_refused(lenet: cnnzoo.CNN, images: Path, stopped: Path) -> None:
    index = stopped.with_name("t.safetensors.parts") / "index.json"
    for content in ("{", "1", "[1]"):
        index.write_text(content)
        with pytest.raises(cnnzoo.DataError, match=r"index.json is damaged; delete .*t.safetensors.parts to start a"):
            save(lenet, images, stopped, "f6")
    index.unlink()
    with pytest.raises(cnnzoo.DataError, match=r"holds parts, but no index.json that says of what; move it away"):
        save(lenet, images, stopped, "f6")


def test_a_missing_part_is_no_table(lenet: cnnzoo.CNN, images: Path, stopped: Path, monkeypatch) -> None:
    next(stopped.with_name("t.safetensors.parts").glob("*3.safetensors")).unlink()
    monkeypatch.setattr(Parts, "write", lambda *arguments: None)  # as on a disk that another machine does not see
    with pytest.raises(cnnzoo.DataError, match=r"0000003.safetensors is not there, or not whole; processes on several"):
        save(lenet, images, stopped, "f6")


def test_other_files_in_the_folder_of_parts_stay(lenet: cnnzoo.CNN, images: Path, stopped: Path) -> None:
    folder = stopped.with_name("t.safetensors.parts")
    (folder / "notes.txt").write_text("mine")
    save(lenet, images, stopped, "f6")
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


# What cannot be read


def spoil(images: Path) -> dict[str, str]:
    """Four images that cannot be read, and what is said about them."""
    draw(images / "boot" / "big.jpg", 0, (64, 64))
    whole = (images / "boot" / "big.jpg").read_bytes()
    (images / "boot" / "big.jpg").write_bytes(whole[: len(whole) // 2])
    (images / "boot" / "0.png").write_bytes(b"")
    (images / "bag" / "page.jpg").write_text("<html>404</html>")
    (images / "coat" / "gone.png").symlink_to(images / "nowhere.png")
    return {
        "bag/page.jpg": "is not an image that PIL knows",
        "boot/0.png": "is not an image that PIL knows",
        "boot/big.jpg": "cannot be read: image file is truncated",
        "coat/gone.png": "there is no file",
    }


def test_bad_images_are_left_out(lenet: cnnzoo.CNN, images: Path, tmp_path: Path) -> None:
    bad = spoil(images)
    table = save(lenet, images, tmp_path / "t.safetensors", "f6")
    assert table.skipped.keys() == bad.keys()
    assert all(bad[name] in why and str(images / name) in why for name, why in table.skipped.items())
    assert len(table) == len(table.files) == len(table.labels) == 29
    assert not set(table.files) & bad.keys()
    torch.testing.assert_close(table.features, direct(lenet, images, table.files, "f6"))


def test_a_class_of_bad_images_is_a_class(lenet: cnnzoo.CNN, images: Path, tmp_path: Path) -> None:
    for path in (images / "boot").iterdir():
        path.write_text("no")
    table = save(lenet, images, tmp_path / "t.safetensors", "f6")
    assert table.classes == CLASSES
    assert table.labels.tolist() == [0] * 10 + [2] * 10


def test_whatever_goes_wrong_with_a_image_is_its_own_fault(lenet: cnnzoo.CNN, images: Path, tmp_path: Path) -> None:
    """PIL raises anything on hostile files."""

    def prepare(image):
        if image.getpixel((0, 0)) == open_image(images / "bag" / "7.png").getpixel((0, 0)):
            raise ZeroDivisionError("0 columns")
        return lenet.checkpoint.transforms()(image)

    table = save(lenet, images, tmp_path / "t.safetensors", "f6", transforms=prepare)
    assert table.skipped["bag/7.png"] == "bag/7.png: ZeroDivisionError('0 columns')"


def test_strict_stops_at_the_first(lenet: cnnzoo.CNN, images: Path, tmp_path: Path) -> None:
    spoil(images)
    with pytest.raises(cnnzoo.DataError, match=r"save_features: .*page.jpg is not an image that PIL knows$"):
        save(lenet, images, tmp_path / "t.safetensors", "f6", strict=True)
    save(lenet, images, tmp_path / "t.safetensors", "f6")


def test_strict_stops_at_what_an_earlier_run_left_out(lenet: cnnzoo.CNN, images: Path, tmp_path: Path, monkeypatch):
    spoil(images)
    unjoined(monkeypatch, lenet, images, tmp_path / "t.safetensors")
    with pytest.raises(cnnzoo.DataError, match=r"page.jpg is not an image that PIL knows; leave out strict to go on"):
        save(lenet, images, tmp_path / "t.safetensors", "f6", strict=True)


def test_no_image_can_be_read(lenet: cnnzoo.CNN, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for i in range(9):
        (tmp_path / "images" / f"{i}.jpg").write_text("no")
    with pytest.raises(cnnzoo.DataError, match=r"none of the 9 images in .*images could be read: .*0.jpg is not a"):
        save(lenet, tmp_path / "images", tmp_path / "t.safetensors", "f6")


def test_a_folder_that_goes_away_is_no_folder_of_bad_images(lenet: cnnzoo.CNN, images: Path, tmp_path: Path) -> None:
    """As a network's disk does at night; the run goes on when it is back."""
    prepare, seen = lenet.checkpoint.transforms(), itertools.count()

    class Leaving:
        def __call__(self, image):
            if next(seen) == 10:
                images.rename(tmp_path / "away")
            return prepare(image)

        def __repr__(self):
            return "Leaving()"

    with pytest.raises(cnnzoo.DataError, match=r"images has gone: .*there is no file .*; bring it back, and the same"):
        save(lenet, images, tmp_path / "t.safetensors", "f6", transforms=Leaving())
    (tmp_path / "away").rename(images)
    table = save(lenet, images, tmp_path / "t.safetensors", "f6", transforms=Leaving())
    assert (len(table), table.skipped) == (30, {})


def test_a_worker_that_is_killed(lenet: cnnzoo.CNN, images: Path, tmp_path: Path) -> None:
    def prepare(image):
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(cnnzoo.DataError, match=r"a process that reads images was killed, .*; lower workers or batch_"):
        save(lenet, images, tmp_path / "t.safetensors", "f6", transforms=prepare, workers=1)
    assert multiprocessing.active_children() == []


def test_too_little_memory(lenet: cnnzoo.CNN, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(self, input):
        if not isinstance(input, ShapeProbe):
            raise torch.OutOfMemoryError("tried to allocate 2 GiB")
        return input

    monkeypatch.setattr(torch.nn.Tanh, "forward", forward)
    with pytest.raises(cnnzoo.DataError, match=r"too little memory for batches of 3: tried to .*; lower batch_size"):
        save(lenet, images, tmp_path / "t.safetensors", "f6", transforms=v2.Compose([v2.Grayscale(), v2.PILToTensor()]))


# Wrong arguments and places


def test_arguments(lenet: cnnzoo.CNN, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "t.safetensors"
    with pytest.raises(cnnzoo.UnknownNameError, match=r"unknown layer 'f7'.*f6"):
        save(lenet, images, out, "f7")
    with pytest.raises(cnnzoo.OptionError, match=r"t.pt: tables are safetensors files; call it t.safetensors"):
        save(lenet, images, tmp_path / "t.pt")
    with pytest.raises(cnnzoo.OptionError, match=r"got batch_size=0; it is 1 or more"):
        save(lenet, images, out, batch_size=0)
    with pytest.raises(cnnzoo.OptionError, match=r"got part_size=0; it is 1 or more"):
        save(lenet, images, out, part_size=0)
    with pytest.raises(cnnzoo.OptionError, match=r"the network is in training mode, .*; call model.eval\(\) first"):
        save(lenet.train(), images, out)
    with pytest.raises(cnnzoo.OptionError, match=r"nothing says how this network wants its images: .* transforms="):
        save(cnnzoo.create("lenet5").eval(), images, out)
    assert list(tmp_path.iterdir()) == [images]


def test_folders(lenet: cnnzoo.CNN, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "t.safetensors"
    with pytest.raises(cnnzoo.DataError, match=r"nowhere is not a folder; name the one that the images are in"):
        save(lenet, tmp_path / "nowhere", out)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no image")
    with pytest.raises(cnnzoo.DataError, match=r"empty holds no images; expected .*empty/<class>/<image>, .*\.jpeg"):
        save(lenet, tmp_path / "empty", out)
    (images / "bag" / "loop").symlink_to(images)
    with pytest.raises(cnnzoo.DataError, match=r"bag/loop is a link that leads back to a folder around it; remove"):
        save(lenet, images, out)


def test_places_that_cannot_be_written(lenet: cnnzoo.CNN, images: Path, tmp_path: Path) -> None:
    with pytest.raises(
        cnnzoo.DataError, match=r"cannot be written: No such file or directory: .*; choose another place"
    ):
        save(lenet, images, tmp_path / "no" / "t.safetensors")
    (tmp_path / "file").write_text("")
    with pytest.raises(cnnzoo.DataError, match=r"cannot be written: Not a directory: .*; choose another place"):
        save(lenet, images, tmp_path / "file" / "t.safetensors")
    (tmp_path / "mine.safetensors").write_text("something else")
    with pytest.raises(cnnzoo.DataError, match=r"mine.safetensors is there already and is no table of features"):
        save(lenet, images, tmp_path / "mine.safetensors")
    assert (tmp_path / "mine.safetensors").read_text() == "something else"
    cnnzoo.save_pretrained(lenet, tmp_path / "weights")
    with pytest.raises(cnnzoo.DataError, match=r"model.safetensors is there already and is no table of features"):
        save(lenet, images, tmp_path / "weights" / "model.safetensors")


def test_too_little_room_is_said_at_the_start(
    lenet: cnnzoo.CNN, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = shutil.disk_usage(tmp_path)._replace(free=2 * 30 * 84 * 4 - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    with pytest.raises(cnnzoo.DataError, match=r"has 2.02e-05 GB left; .* 30 images with 84 features need 2.02e-05 GB"):
        save(lenet, images, tmp_path / "t.safetensors", "f6")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free._replace(free=2 * 30 * 84 * 4))
    save(lenet, images, tmp_path / "t.safetensors", "f6")


def test_a_full_disk(lenet: cnnzoo.CNN, images: Path, tmp_path: Path) -> None:
    """The system's limit on the size of a file, which a part keeps and the table does not."""
    out = tmp_path / "t.safetensors"
    save(lenet, images, tmp_path / "whole.safetensors", "f6")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError, match=r"File too large"):
            save(lenet, images, out, "f6")
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        with pytest.raises(OSError, match=r"File too large"):
            save(lenet, images, tmp_path / "other.safetensors", "f6")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not out.exists()
    save(lenet, images, out, "f6")
    assert out.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


def test_what_is_no_table(lenet: cnnzoo.CNN, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "t.safetensors"
    with pytest.raises(cnnzoo.DataError, match=r"load_features: there is no file .*t.safetensors"):
        cnnzoo.load_features(out)
    save(lenet, images, out, "f6")
    out.write_bytes(out.read_bytes()[:-1])
    with pytest.raises(cnnzoo.DataError, match=r"t.safetensors is not a whole table of features: .*; make it again"):
        cnnzoo.load_features(out)
    save_file({"features": torch.zeros(2, 2)}, out)
    with pytest.raises(cnnzoo.DataError, match=r"t.safetensors is no table of features; `cnnzoo features` writes them"):
        cnnzoo.load_features(out)
    names = {name: encoded([]) for name in ("files", "classes", "skipped")}
    save_file({"features": torch.zeros(2, 2), **names}, out, {"cnnzoo.features": "{}"})
    with pytest.raises(cnnzoo.DataError, match=r"is not a whole table of features: it has 0 names for 2 rows; make it"):
        cnnzoo.load_features(out)
    for metadata in ("{", "[]"):
        save_file({"features": torch.zeros(2, 2), **names}, out, {"cnnzoo.features": metadata})
        with pytest.raises(cnnzoo.DataError, match=r"t.safetensors is no table of features; `cnnzoo features` writes"):
            cnnzoo.load_features(out)
    save_file({"features": torch.zeros(2, 2)}, out, {"cnnzoo.features": "{}"})
    with pytest.raises(
        cnnzoo.DataError, match=r"t.safetensors is not a whole table of features: 'files'; make it again"
    ):
        cnnzoo.load_features(out)


# Sharing the work


SHARED = """
import os, signal, sys
import cnnzoo
from cnnzoo.extraction.tables.parts import Parts

rank, folder, path, mode = int(os.environ["RANK"]), *sys.argv[1:]
write = Parts.write

def say(line):
    os.write(1, (line + "\\n").encode())  # as a whole: both write to the same place

def watched(self, number, *rest):
    say(f"{rank} wrote {number}")
    if mode == "killed" and rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, number, *rest)

Parts.write = watched
model = cnnzoo.load_pretrained("lenet5", classic=mode == "differs" and rank == 1)
table = cnnzoo.save_features(
    model, folder, path, "f6", part_size=2, batch_size=3, workers=0, progress=False, strict=mode == "strict"
)
say(f"{rank} has {len(table)}")
"""


def test_two_processes_make_the_same_table(lenet: cnnzoo.CNN, images: Path, tmp_path: Path) -> None:
    spoil(images)
    run = by_torchrun(tmp_path, images, tmp_path / "two.safetensors", "fine")
    assert run.returncode == 0, run.stderr
    said = run.stdout.split("\n")
    numbers = sorted(int(line.split()[2]) for line in said if "wrote" in line)
    assert numbers == list(range(17))  # 33 images, each part once
    assert {line[0] for line in said if "wrote" in line} == {"0", "1"}
    assert {"0 has 29", "1 has 29"} <= set(said)
    save(lenet, images, tmp_path / "one.safetensors", "f6", part_size=2)
    assert (tmp_path / "two.safetensors").read_bytes() == (tmp_path / "one.safetensors").read_bytes()


def test_a_process_that_fails_ends_all(images: Path, tmp_path: Path) -> None:
    (images / "boot" / "0.png").write_bytes(b"")
    run = by_torchrun(tmp_path, images, tmp_path / "two.safetensors", "strict")
    assert run.returncode != 0
    assert "0.png is not an image that PIL knows" in run.stderr
    assert re.search(r"process [01] of 2 stopped: .*0.png is not an image", run.stderr)
    assert not (tmp_path / "two.safetensors").exists()


def test_a_process_that_is_killed_is_noticed(lenet: cnnzoo.CNN, images: Path, tmp_path: Path) -> None:
    """Also where nothing like torchrun watches them."""
    first, second = by_hand(tmp_path, images, tmp_path / "two.safetensors", "killed")
    assert second.returncode == -signal.SIGKILL
    assert re.search("another process of this run has ended, .*; the same command goes on", first.stderr), first.stderr
    assert len(list((tmp_path / "two.safetensors.parts").glob("*.safetensors"))) >= 10
    save(lenet, images, tmp_path / "two.safetensors", "f6", part_size=2)


def test_processes_with_different_networks(images: Path, tmp_path: Path) -> None:
    for run in by_hand(tmp_path, images, tmp_path / "two.safetensors", "differs"):
        assert "the processes have different networks; give all of them the same" in run.stderr
        assert run.returncode == 1


def by_torchrun(tmp_path: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    (tmp_path / "shared.py").write_text(SHARED)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", tmp_path / "shared.py"]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=100, env=environment)


def by_hand(tmp_path: Path, *arguments: str | Path) -> list[subprocess.CompletedProcess[str]]:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        place = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}

    def run(rank: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", SHARED, *arguments]
        environment = os.environ | place | {"RANK": str(rank)}
        return subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment)

    with ThreadPoolExecutor(2) as both:
        return list(both.map(run, range(2)))
