"""Data sets and pictures, whole and damaged."""

import gzip
import hashlib
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch
from torchvision.transforms.v2.functional import to_pil_image

import cnnzoo
from cnnzoo.data import datasets
from cnnzoo.data.datasets import cifar10, cifar100, fashion_mnist, image_folder, mnist
from cnnzoo.data.idx import read_idx
from cnnzoo.data.pictures import drawn, open_picture, samples
from cnnzoo.data.preprocessing import Preprocessing


def idx(tensor: torch.Tensor) -> bytes:
    """The format of Yann LeCun's MNIST files: zero, zero, 8 for bytes, the number of axes, their sizes, the bytes."""
    header = bytes([0, 0, 8, tensor.ndim]) + struct.pack(f">{tensor.ndim}I", *tensor.shape)
    return header + tensor.numpy().tobytes()


def write_idx_folder(
    folder: Path, *, compressed: bool = True, repeat: int = 1
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Fashion-MNIST's four files with 20 and 10 pictures of noise, times `repeat`."""
    generator = torch.Generator().manual_seed(0)
    made = {}
    for split, prefix, n in (("train", "train", 20 * repeat), ("test", "t10k", 10 * repeat)):
        images = torch.randint(256, (n, 28, 28), dtype=torch.uint8, generator=generator)
        labels = torch.arange(n).remainder(10).to(torch.uint8)
        for part, tensor in (("images-idx3", images), ("labels-idx1", labels)):
            content = idx(tensor)
            name = f"{prefix}-{part}-ubyte" + (".gz" if compressed else "")
            (folder / name).write_bytes(gzip.compress(content) if compressed else content)
        made[split] = (images, labels)
    return made


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("below", [".", "FashionMNIST/raw"])
def test_idx_files(tmp_path: Path, compressed: bool, below: str) -> None:
    place = tmp_path / below
    place.mkdir(parents=True, exist_ok=True)
    made = write_idx_folder(place, compressed=compressed)
    sets = fashion_mnist(tmp_path)
    for split, (images, labels) in made.items():
        assert torch.equal(sets[split].images[:, 0], images)
        assert torch.equal(sets[split].labels, labels.long())
        assert len(sets[split]) == len(labels)
        assert sets[split].classes[9] == "Ankle boot"


def test_same_bytes_as_torchvision_reads(tmp_path: Path) -> None:
    from torchvision.datasets import FashionMNIST

    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    write_idx_folder(raw, compressed=False)
    theirs = FashionMNIST(tmp_path, train=True)
    ours = fashion_mnist(tmp_path)["train"]
    assert torch.equal(ours.images[:, 0], theirs.data)
    assert torch.equal(ours.labels, theirs.targets)
    assert list(ours.classes) == list(theirs.classes)


def test_folders_of_pictures(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name, level in (("t-shirt-top", 10), ("Ankle boot", 200), ("3", 90)):
            (tmp_path / split / name).mkdir(parents=True)
            to_pil_image(torch.full((3, 40, 40), level, dtype=torch.uint8)).save(tmp_path / split / name / "a.png")
    sets = fashion_mnist(tmp_path)
    assert sorted(zip(sets["train"].labels.tolist(), sets["train"].images[:, 0, 5, 5].tolist(), strict=True)) == [
        *((0, 10), (3, 90), (9, 200))
    ]
    (tmp_path / "train" / "sandals").mkdir()
    with pytest.raises(cnnzoo.UnknownNameError, match=r"unknown class 'sandals': did you mean 'sandal'"):
        fashion_mnist(tmp_path)


def test_folder_without_pictures(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    with pytest.raises(cnnzoo.DataError, match=r"train holds no pictures; expected .*<class>/<picture>"):
        fashion_mnist(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-1], r"holds \d+ bytes; its header \(20,\) promises 28"),
        (lambda content: content + b"x", r"promises 28"),
        (lambda content: b"\x89PNG" + content[4:], r"not an IDX file of bytes: it starts with 89504e47"),
        (lambda content: b"", r"it starts with nothing"),
        (lambda content: content[:6], r"promises"),
        (lambda content: content[:-1] + b"\x0b", r"labels \(20,\) up to 11; expected .* up to 9"),
    ],
)
def test_damaged_labels(tmp_path: Path, damage: Callable[[bytes], bytes], message: str) -> None:
    write_idx_folder(tmp_path, compressed=False)
    path = tmp_path / "train-labels-idx1-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(cnnzoo.DataError, match=message):
        fashion_mnist(tmp_path)


def test_truncated_gzip(tmp_path: Path) -> None:
    write_idx_folder(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(cnnzoo.DataError, match=r"train-images-idx3-ubyte\.gz cannot be read"):
        fashion_mnist(tmp_path)


def test_damaged_gzip(tmp_path: Path) -> None:
    write_idx_folder(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    content = bytearray(path.read_bytes())
    content[40:60] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(cnnzoo.DataError, match=r"train-images-idx3-ubyte\.gz cannot be read"):
        fashion_mnist(tmp_path)


def test_missing_file(tmp_path: Path) -> None:
    write_idx_folder(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(cnnzoo.DataError, match=r"lacks t10k-labels-idx1-ubyte\(\.gz\)"):
        fashion_mnist(tmp_path)


def test_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(cnnzoo.DataError, match=r"no train-images-idx3-ubyte\(\.gz\) in .*nor folders train/ and test/"):
        fashion_mnist(tmp_path)
    with pytest.raises(cnnzoo.DataError, match="nowhere is not a folder"):
        fashion_mnist(tmp_path / "nowhere")
    monkeypatch.setattr(datasets, "FASHION_MNIST", tmp_path / "debian")
    monkeypatch.setattr(datasets, "DOWNLOADS", tmp_path / "cache")
    with pytest.raises(
        cnnzoo.DataError, match=r"install Debian's dataset-fashion-mnist, name a folder with --data, or"
    ):
        fashion_mnist()


def test_download_goes_through_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(root: Path, *, download: bool) -> None:
        assert download
        (root / "FashionMNIST" / "raw").mkdir(parents=True)
        write_idx_folder(root / "FashionMNIST" / "raw", compressed=False)

    monkeypatch.setattr("torchvision.datasets.FashionMNIST", fetch)
    monkeypatch.setattr(datasets, "FASHION_MNIST", tmp_path / "debian")
    monkeypatch.setattr(datasets, "DOWNLOADS", tmp_path / "cache")
    assert len(fashion_mnist(download=True)["train"]) == 20
    assert len(fashion_mnist(tmp_path / "mine", download=True)["train"]) == 20
    monkeypatch.delattr("torchvision.datasets.FashionMNIST")  # not asked a second time
    assert len(fashion_mnist(download=True)["test"]) == 10


def test_failed_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(root: Path, *, download: bool) -> None:
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")

    monkeypatch.setattr("torchvision.datasets.MNIST", fetch)
    with pytest.raises(cnnzoo.DataError, match=r"mnist: the download into .* failed: Error downloading"):
        mnist(tmp_path, download=True)


def test_mnist_is_read_as_fashion_mnist_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    made = write_idx_folder(raw)
    sets = mnist(tmp_path)
    assert torch.equal(sets["test"].images[:, 0], made["test"][0])
    assert sets["train"].classes == tuple("0123456789")
    monkeypatch.setattr(datasets, "DOWNLOADS", tmp_path / "cache")
    with pytest.raises(
        cnnzoo.DataError, match=r"mnist: no train-images-idx3-ubyte\(\.gz\) in \S+ or \S+; name a folder"
    ):
        mnist()


@pytest.mark.parametrize(
    ("load", "kind", "labels"), [(cifar10, "CIFAR10", "labels"), (cifar100, "CIFAR100", "fine_labels")]
)
def test_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: Callable, kind: str, labels: str) -> None:
    from torchvision import datasets as theirs

    dataset = getattr(theirs, kind)
    folder = tmp_path / dataset.base_folder
    folder.mkdir()
    pixels = torch.randint(256, (6, 3072), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    def write(name: str, content: dict) -> list[str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    batch = {"data": pixels.numpy(), labels: [0, 1, 2, 3, 4, 5]}
    meta = dataset.meta
    filename, md5 = write(meta["filename"], {meta["key"]: [f"class {i}" for i in range(6)]})
    monkeypatch.setattr(dataset, "train_list", [write("one", batch), write("two", batch)])
    monkeypatch.setattr(dataset, "test_list", [write("test", batch)])
    monkeypatch.setattr(dataset, "meta", meta | {"filename": filename, "md5": md5})
    sets = load(tmp_path)
    assert torch.equal(sets["test"].images, pixels.view(6, 3, 32, 32))
    assert torch.equal(sets["train"].images, pixels.view(6, 3, 32, 32).repeat(2, 1, 1, 1))
    assert sets["test"].labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert sets["train"].classes[5] == "class 5"
    (folder / "two").write_bytes(b"changed")
    with pytest.raises(
        cnnzoo.DataError, match=rf"{load.__name__}: {folder} is missing, or not what its authors published"
    ):
        load(tmp_path)


def test_image_folder(tmp_path: Path) -> None:
    tiny.write_folder(tmp_path, ("train", "test"))
    sets = image_folder(tmp_path)
    assert sets["train"].classes == ("green", "red")
    assert len(sets["train"]) == 8
    assert [Path(path).parent.name for path in sets["test"].paths] == ["green", "red"]
    assert sets["test"].labels == (0, 1)


def test_folders_that_are_no_image_folder(tmp_path: Path) -> None:
    with pytest.raises(
        cnnzoo.DataError, match=r"image_folder: pictures of your own cannot be downloaded; name a folder"
    ):
        image_folder()
    with pytest.raises(cnnzoo.DataError, match=r"train holds no <class>/<picture>"):
        image_folder(tmp_path)
    tiny.write_folder(tmp_path)
    (tmp_path / "val" / "red").rename(tmp_path / "val" / "blue")
    with pytest.raises(cnnzoo.DataError, match=r"have different classes, such as blue, red; each holds"):
        image_folder(tmp_path)
    for path in (tmp_path / "train" / "red").iterdir():
        path.rename(path.with_suffix(".txt"))
    with pytest.raises(
        cnnzoo.DataError, match=r"train holds no <class>/<picture>: Found no valid file for the classes red"
    ):
        image_folder(tmp_path)


def test_read_idx_keeps_every_axis(tmp_path: Path) -> None:
    tensor = torch.arange(24, dtype=torch.uint8).view(2, 3, 4)
    (tmp_path / "a").write_bytes(idx(tensor))
    assert torch.equal(read_idx(tmp_path / "a"), tensor)


def test_samples_are_one_of_each_class() -> None:
    shown = samples()
    assert [sample.label for sample in shown][:2] == ["T-shirt/top", "Trouser"]
    assert len({sample.label for sample in shown}) == 10
    assert {sample.picture.size for sample in shown} == {(28, 28)}


def test_drawn_pictures() -> None:
    image = torch.zeros(4, 3, dtype=torch.uint8)
    image[2:] = 255
    assert drawn(image) == "   \n@@@"


def test_preprocessing_of_colour_and_grey() -> None:
    colour = Preprocessing(channels=3, size=8, pad=0, mean=0.5, std=0.5).transforms()
    grey = Preprocessing(channels=1, size=8, pad=1, mean=0.5, std=0.5).transforms()
    picture = to_pil_image(torch.full((1, 20, 20), 255, dtype=torch.uint8))
    assert colour(picture).shape == (3, 8, 8)
    assert torch.allclose(colour(picture), torch.ones(3, 8, 8))
    assert grey(picture.convert("RGB")).shape == (1, 10, 10)
    assert grey(picture)[0, 0, 0] == -1  # the black border


def test_preprocessing_of_pictures_that_are_not_square() -> None:
    wide = Preprocessing(size=[10, 18], pad=1, mean=0.0, std=1.0)
    assert wide == Preprocessing(size=(10, 18), pad=1, mean=0.0, std=1.0)
    assert (wide.frame, wide.input_shape) == ((10, 18), (3, 12, 20))
    picture = to_pil_image(torch.full((3, 100, 180), 255, dtype=torch.uint8))
    assert wide.transforms()(picture).shape == (3, 12, 20)
    assert Preprocessing(size=(10, 18), resize=24).transforms()(picture).shape == (3, 10, 18)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "not a picture that PIL knows"), (b"hello", "not a picture that PIL knows"), (None, "there is no file")],
)
def test_files_that_are_no_pictures(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(cnnzoo.DataError, match=message):
        open_picture(tmp_path / "a.png")


def test_truncated_picture(tmp_path: Path) -> None:
    samples()[0].picture.resize((200, 200)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(cnnzoo.DataError, match=r"a\.png cannot be read"):
        open_picture(tmp_path / "a.png")
