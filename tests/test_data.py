"""Data sets and images, whole and damaged."""

import gzip
import hashlib
import pickle
import struct
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import tiny
import torch
from torchvision.transforms.v2.functional import to_pil_image

import cnnzoo
from cnnzoo.data import datasets
from cnnzoo.data.datasets import cifar10, cifar100, fashion_mnist, image_folder, mnist
from cnnzoo.data.idx import read_idx
from cnnzoo.data.image_files import class_names, drawn, open_image, samples
from cnnzoo.data.images import hold_out
from cnnzoo.data.preprocessing import Preprocessing


def idx(tensor: torch.Tensor) -> bytes:
    """The format of Yann LeCun's MNIST files: zero, zero, 8 for bytes, the number of axes, their sizes, the bytes."""
    header = bytes([0, 0, 8, tensor.ndim]) + struct.pack(f">{tensor.ndim}I", *tensor.shape)
    return header + tensor.numpy().tobytes()


def write_idx_folder(
    folder: Path, *, compressed: bool = True, repeat: int = 1
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Fashion-MNIST's four files with 20 and 10 images of noise, times `repeat`."""
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


def write_image_folders(root: Path, classes: Sequence[str], shape: tuple[int, int, int], test: str = "test") -> None:
    """One image of each class in every split, of a grey level that tells its class."""
    for split in ("train", test):
        for label, name in enumerate(classes):
            (root / split / name).mkdir(parents=True)
            image = torch.full(shape, 2 * label, dtype=torch.uint8)
            to_pil_image(image).save(root / split / name / "a.png")


@pytest.mark.parametrize("load", [mnist, fashion_mnist, cifar10, cifar100], ids=lambda one: one.__name__)
@pytest.mark.parametrize("test", ["test", "val"])
@pytest.mark.parametrize("numbered", [False, True])
def test_image_folders(tmp_path: Path, load: Callable, test: str, numbered: bool) -> None:
    shape = (3, 32, 32) if "cifar" in load.__name__ else (1, 28, 28)
    names = [name.replace("/", " ") for name in class_names(load.__name__)]
    write_image_folders(tmp_path, [str(i) for i in range(len(names))] if numbered else names, shape, test)
    sets = load(tmp_path)
    for split in sets.values():
        assert sorted(split.labels.tolist()) == list(range(len(names)))
        assert torch.equal(split.images, (2 * split.labels).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, *shape))
        assert split.is_part


def test_images_of_folders_are_brought_to_size(tmp_path: Path) -> None:
    write_image_folders(tmp_path, [str(i) for i in range(10)], (3, 40, 50))
    images = mnist(tmp_path)["train"].images
    assert images.shape == (10, 1, 28, 28)
    assert images[:, 0, 14, 14].tolist() == list(range(0, 20, 2))


def test_image_folders_of_other_classes(tmp_path: Path) -> None:
    write_image_folders(tmp_path, class_names("cifar10"), (3, 32, 32))
    with pytest.raises(
        cnnzoo.DataError, match=r"fashion_mnist: \S+airplane is called after no class .* set data.name=image_folder"
    ):
        fashion_mnist(tmp_path)
    (tmp_path / "train" / "cats").mkdir()
    with pytest.raises(cnnzoo.DataError, match=r"train/cats is called after no class .* did you mean 'cat'"):
        cifar10(tmp_path)


@pytest.mark.parametrize("split", ["train", "test"])
def test_image_folders_that_miss_a_class(tmp_path: Path, split: str) -> None:
    write_image_folders(tmp_path, class_names("cifar10"), (3, 32, 32))
    (tmp_path / split / "frog" / "a.png").unlink()
    with pytest.raises(
        cnnzoo.DataError, match=rf"cifar10: {tmp_path} has no {split} image of frog: every class has to occur: add the"
    ):
        cifar10(tmp_path)


def test_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    with pytest.raises(cnnzoo.DataError, match=r"train holds no images; expected .*<class>/<image>"):
        fashion_mnist(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-1], r"holds \d+ bytes; its header \(20,\) promises 28"),
        (lambda content: content + b"x", r"promises 28"),
        (lambda content: b"\x89PNG" + content[4:], r"not an IDX file of bytes: it starts with 89504e47"),
        (lambda content: b"", r"it starts with nothing"),
        (lambda content: content[:6], r"promises"),
        (
            lambda content: content[:-1] + b"\x0b",
            r"has the train label 11; .* has the labels 0 to 9: it is damaged, or",
        ),
        (lambda content: idx(torch.arange(19).to(torch.uint8)), r"labels of shape \(19,\); .* do not belong together"),
        (
            lambda content: idx(torch.arange(20).remainder(9).to(torch.uint8)),
            r"has no train image of Ankle boot: every",
        ),
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
    with pytest.raises(cnnzoo.DataError, match=r"train-images-idx3-ubyte\.gz cannot be read.*; download it again"):
        fashion_mnist(tmp_path)


def test_damaged_gzip(tmp_path: Path) -> None:
    write_idx_folder(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    content = bytearray(path.read_bytes())
    content[40:60] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(cnnzoo.DataError, match=r"train-images-idx3-ubyte\.gz cannot be read.*; download it again"):
        fashion_mnist(tmp_path)


def test_missing_file(tmp_path: Path) -> None:
    write_idx_folder(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(cnnzoo.DataError, match=r"lacks t10k-labels-idx1-ubyte\(\.gz\)"):
        fashion_mnist(tmp_path)


IMAGE_FOLDERS = r"images in train/<class>/ with test/<class>/ or val/<class>/"
FORMS = {
    mnist: r"train-images-idx3-ubyte in the folder itself or MNIST/raw/; ",
    fashion_mnist: r"train-images-idx3-ubyte in the folder itself or FashionMNIST/raw/; ",
    cifar10: r"data_batch_1 in cifar-10-batches-py/ or the folder itself, cifar-10-python\.tar\.gz; "
    r"data_batch_1\.bin in cifar-10-batches-bin/ or the folder itself, cifar-10-binary\.tar\.gz; ",
    cifar100: r"train in cifar-100-python/ or the folder itself, cifar-100-python\.tar\.gz; "
    r"train\.bin in cifar-100-binary/ or the folder itself, cifar-100-binary\.tar\.gz; ",
}


@pytest.mark.parametrize("load", FORMS, ids=lambda one: one.__name__)
def test_what_is_missing_is_said_with_all_forms(tmp_path: Path, load: Callable) -> None:
    with pytest.raises(
        cnnzoo.DataError,
        match=rf"{load.__name__}: nothing found in {tmp_path}\. Looked for {FORMS[load]}{IMAGE_FOLDERS}: .*name a folder "
        "with --data, or allow --download",
    ):
        load(tmp_path)
    with pytest.raises(cnnzoo.DataError, match=r"there is no folder .*nowhere; name one with --data"):
        load(tmp_path / "nowhere")


def test_no_data_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "FASHION_MNIST", tmp_path / "debian")
    monkeypatch.setattr(datasets, "DOWNLOADS", tmp_path / "cache")
    with pytest.raises(
        cnnzoo.DataError,
        match=rf"nothing found in {tmp_path}/debian or {tmp_path}/cache\..*: install Debian's dataset-fashion-mnist, name",
    ):
        fashion_mnist()


@pytest.mark.parametrize(
    ("load", "below", "held"),
    [
        (mnist, "FashionMNIST/raw", "fashion_mnist"),
        (fashion_mnist, "MNIST/raw", "mnist"),
        (cifar10, "MNIST/raw", "mnist"),
        (cifar10, "cifar-100-binary", "cifar100"),
        (cifar100, "cifar-10-batches-bin", "cifar10"),
    ],
)
def test_another_data_set_in_the_folder(tmp_path: Path, load: Callable, below: str, held: str) -> None:
    (tmp_path / below).mkdir(parents=True)
    if "cifar" in held:
        write_binary(tmp_path / below, held)
    else:
        write_idx_folder(tmp_path / below)
    with pytest.raises(cnnzoo.DataError, match=rf"; there is {held} instead \(data\.name={held}\)\. Looked for"):
        load(tmp_path)


@pytest.mark.parametrize(("load", "held"), [(mnist, "fashion_mnist"), (fashion_mnist, "mnist")])
def test_files_of_the_same_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: Callable, held: str) -> None:
    write_idx_folder(tmp_path)
    content = gzip.decompress((tmp_path / "t10k-labels-idx1-ubyte.gz").read_bytes())
    monkeypatch.setitem(datasets.TEST_LABELS, held, hashlib.md5(content).hexdigest())
    with pytest.raises(
        cnnzoo.DataError, match=rf"holds {held}, whose files have the same names; set data\.name={held}"
    ):
        load(tmp_path)


@pytest.mark.skipif(not datasets.FASHION_MNIST.is_dir(), reason="needs Debian's dataset-fashion-mnist")
def test_fashion_mnist_is_not_taken_for_mnist() -> None:
    with pytest.raises(cnnzoo.DataError, match=r"holds fashion_mnist, whose files have the same names"):
        mnist(datasets.FASHION_MNIST)
    assert not any(split.is_part for split in fashion_mnist().values())


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


def test_mnist_is_read_as_fashion_mnist_is(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    made = write_idx_folder(raw)
    sets = mnist(tmp_path)
    assert torch.equal(sets["test"].images[:, 0], made["test"][0])
    assert sets["train"].classes == tuple("0123456789")


def noise(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(256, (n, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def binary(images: torch.Tensor, labels: list[int], superclass: bool) -> bytes:
    """The records of the binary version, as its page describes them: a label or two, then red, green and blue."""
    rows = zip(images, labels, strict=True)
    return b"".join(
        (b"\x07" if superclass else b"") + bytes([label]) + image.numpy().tobytes() for image, label in rows
    )


def write_binary(folder: Path, name: str) -> dict[str, torch.Tensor]:
    """The files of CIFAR's binary version, with each class once in every file."""
    classes = len(class_names(name))
    files = {"train": ["train.bin"], "test": ["test.bin"]}
    if name == "cifar10":
        files = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}
    made = {}
    for split, names in files.items():
        parts = [noise(classes, seed) for seed in range(len(names))]
        for file, images in zip(names, parts, strict=True):
            (folder / file).write_bytes(binary(images, list(range(classes)), name == "cifar100"))
        made[split] = torch.cat(parts)
    return made


def pack(folder: Path, archive: Path) -> None:
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(folder, folder.name)


BINARY = {cifar10: "cifar-10-batches-bin", cifar100: "cifar-100-binary"}
BINARY_ARCHIVES = {cifar10: "cifar-10-binary.tar.gz", cifar100: "cifar-100-binary.tar.gz"}


@pytest.mark.parametrize("load", BINARY, ids=lambda one: one.__name__)
@pytest.mark.parametrize(
    "kept", ["torchvision's place", "the folder itself", "beside the archive", "the archive itself"]
)
def test_binary_version(tmp_path: Path, load: Callable, kept: str) -> None:
    folder, root = tmp_path / BINARY[load], tmp_path / "root"
    folder.mkdir()
    root.mkdir()
    made = write_binary(folder, load.__name__)
    pack(folder, root / BINARY_ARCHIVES[load])
    given = {
        "torchvision's place": tmp_path,
        "the folder itself": folder,
        "beside the archive": root,
        "the archive itself": root / BINARY_ARCHIVES[load],
    }
    sets = load(given[kept])
    classes = len(class_names(load.__name__))
    for split, images in made.items():
        assert torch.equal(sets[split].images, images)
        assert sets[split].labels.tolist() == list(range(classes)) * (len(images) // classes)
        assert sets[split].whole == (50_000 if split == "train" else 10_000)


def damaged_binary(tmp_path: Path, name: str, change: Callable[[Path], object]) -> Path:
    write_binary(tmp_path, "cifar10")
    change(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda path: path.write_bytes(path.read_bytes()[:-5]),
            r"data_batch_3\.bin holds 30,725 bytes, .* multiple of 3,073",
        ),
        (
            lambda path: path.write_bytes(b""),
            r"data_batch_3\.bin holds 0 bytes, .* truncated or another file: download it",
        ),
        (lambda path: path.unlink(), r"lacks data_batch_3\.bin; a data set is used whole: add the file"),
        (lambda path: path.write_bytes(binary(noise(1), [10], False)), r"has the train label 10; .* labels 0 to 9"),
    ],
)
def test_damaged_binary_version(tmp_path: Path, change: Callable[[Path], object], message: str) -> None:
    with pytest.raises(cnnzoo.DataError, match=message):
        cifar10(damaged_binary(tmp_path, "data_batch_3.bin", change))


@pytest.mark.parametrize("keep", [0.5, 0.99])
def test_truncated_archive(tmp_path: Path, keep: float) -> None:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    write_binary(folder, "cifar10")
    archive = tmp_path / "cifar-10-binary.tar.gz"
    pack(folder, archive)
    content = archive.read_bytes()
    archive.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(
        cnnzoo.DataError, match=rf"{archive} cannot be read: .*; it is truncated or no \.tar\.gz archive: download"
    ):
        cifar10(archive)


@pytest.mark.parametrize(
    ("load", "kind", "labels"), [(cifar10, "CIFAR10", "labels"), (cifar100, "CIFAR100", "fine_labels")]
)
def test_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: Callable, kind: str, labels: str) -> None:
    from torchvision import datasets as theirs

    dataset = getattr(theirs, kind)
    folder = tmp_path / dataset.base_folder
    folder.mkdir()
    classes = class_names(load.__name__)
    count = len(classes)
    pixels = noise(count).flatten(1)

    def write(name: str, content: dict) -> list[str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    batch = {"data": pixels.numpy(), labels: list(range(count))}
    monkeypatch.setattr(dataset, "train_list", [write("one", batch), write("two", batch)])
    monkeypatch.setattr(dataset, "test_list", [write("test", batch)])
    archive = tmp_path / "archives" / dataset.filename
    archive.parent.mkdir()
    pack(folder, archive)
    for given in (tmp_path, folder, archive.parent, archive):
        sets = load(given)
        assert torch.equal(sets["test"].images, pixels.view(count, 3, 32, 32))
        assert torch.equal(sets["train"].images, pixels.view(count, 3, 32, 32).repeat(2, 1, 1, 1))
        assert sets["test"].labels.tolist() == list(range(count))
        assert sets["train"].classes == classes
    (folder / "two").write_bytes(b"changed")
    with pytest.raises(
        cnnzoo.DataError,
        match=rf"{folder}/two has the MD5 sum \w+; the file that its authors published has \w+: download",
    ):
        load(tmp_path)


@pytest.mark.parametrize("count", [1, 7, 19])
def test_held_out_images_are_others(count: int) -> None:
    images = tiny.bars(20)
    left, held_out = hold_out(images, count, seed=3)
    rows = [
        [row for row in range(20) if torch.equal(images.images[row], one)]
        for part in (left, held_out)
        for one in part.images
    ]
    assert sorted(row for (row,) in rows) == list(range(20))
    assert len(held_out) == count
    assert torch.equal(images.labels[[row for (row,) in rows]], torch.cat([left.labels, held_out.labels]))
    assert torch.equal(hold_out(images, count, seed=3)[1].images, held_out.images)
    assert count in (1, 19) or not torch.equal(hold_out(images, count, seed=4)[1].images, held_out.images)


@pytest.mark.parametrize("count", [0, 20, 5000])
def test_more_held_out_than_there_is(count: int) -> None:
    with pytest.raises(
        cnnzoo.DataError, match=rf"got {count:,} images to hold out of a training set of 20; .*validation="
    ):
        hold_out(tiny.bars(20), count, seed=0)


def test_image_files_are_held_out_too(tmp_path: Path) -> None:
    files = tiny.files(tmp_path)["train"]
    left, held_out = hold_out(files, 3, seed=0)
    pairs = [*zip(left.paths, left.labels, strict=True), *zip(held_out.paths, held_out.labels, strict=True)]
    assert sorted(pairs) == sorted(zip(files.paths, files.labels, strict=True))
    assert len(held_out) == 3


def test_image_folder(tmp_path: Path) -> None:
    tiny.write_folder(tmp_path, ("train", "test"))
    sets = image_folder(tmp_path)
    assert sets["train"].classes == ("green", "red")
    assert len(sets["train"]) == 8
    assert [Path(path).parent.name for path in sets["test"].paths] == ["green", "red"]
    assert sets["test"].labels == (0, 1)


def test_folders_that_are_no_image_folder(tmp_path: Path) -> None:
    with pytest.raises(cnnzoo.DataError, match=r"image_folder: images of your own cannot be downloaded; name a folder"):
        image_folder()
    with pytest.raises(cnnzoo.DataError, match=r"train holds no <class>/<image>"):
        image_folder(tmp_path)
    tiny.write_folder(tmp_path)
    (tmp_path / "val" / "red").rename(tmp_path / "val" / "blue")
    with pytest.raises(cnnzoo.DataError, match=r"have different classes, such as blue, red; each holds"):
        image_folder(tmp_path)
    for path in (tmp_path / "train" / "red").iterdir():
        path.rename(path.with_suffix(".txt"))
    with pytest.raises(
        cnnzoo.DataError, match=r"train holds no <class>/<image>: Found no valid file for the classes red"
    ):
        image_folder(tmp_path)


def test_read_idx_keeps_every_axis(tmp_path: Path) -> None:
    tensor = torch.arange(24, dtype=torch.uint8).view(2, 3, 4)
    (tmp_path / "a").write_bytes(idx(tensor))
    assert torch.equal(read_idx(tmp_path / "a"), tensor)


def test_samples_are_one_of_each_class() -> None:
    assert [sample.label for sample in samples()] == list("0123456789")
    shown = samples("fashion_mnist")
    assert [sample.label for sample in shown][:2] == ["T-shirt/top", "Trouser"]
    with pytest.raises(
        cnnzoo.UnknownNameError, match=r"samples: unknown data set 'cifar10': known: mnist, fashion_mnist"
    ):
        samples("cifar10")
    assert len({sample.label for sample in shown}) == 10
    assert {sample.image.size for sample in shown} == {(28, 28)}


def test_drawn_images() -> None:
    image = torch.zeros(4, 3, dtype=torch.uint8)
    image[2:] = 255
    assert drawn(image) == "   \n@@@"


def test_preprocessing_of_colour_and_grey() -> None:
    colour = Preprocessing(channels=3, size=8, pad=0, mean=0.5, std=0.5).transforms()
    grey = Preprocessing(channels=1, size=8, pad=1, mean=0.5, std=0.5).transforms()
    image = to_pil_image(torch.full((1, 20, 20), 255, dtype=torch.uint8))
    assert colour(image).shape == (3, 8, 8)
    assert torch.allclose(colour(image), torch.ones(3, 8, 8))
    assert grey(image.convert("RGB")).shape == (1, 10, 10)
    assert grey(image)[0, 0, 0] == -1  # the black border


def test_preprocessing_of_images_that_are_not_square() -> None:
    wide = Preprocessing(size=[10, 18], pad=1, mean=0.0, std=1.0)
    assert wide == Preprocessing(size=(10, 18), pad=1, mean=0.0, std=1.0)
    assert (wide.frame, wide.input_shape) == ((10, 18), (3, 12, 20))
    image = to_pil_image(torch.full((3, 100, 180), 255, dtype=torch.uint8))
    assert wide.transforms()(image).shape == (3, 12, 20)
    assert Preprocessing(size=(10, 18), resize=24).transforms()(image).shape == (3, 10, 18)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "not an image that PIL knows"), (b"hello", "not an image that PIL knows"), (None, "there is no file")],
)
def test_files_that_are_no_images(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(cnnzoo.DataError, match=message):
        open_image(tmp_path / "a.png")


def test_truncated_image(tmp_path: Path) -> None:
    samples()[0].image.resize((200, 200)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(cnnzoo.DataError, match=r"a\.png cannot be read"):
        open_image(tmp_path / "a.png")
