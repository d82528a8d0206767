"""CAPTCHAs: the same from the same seed, drawn by processes or not, and from archives and folders."""

import re
import subprocess
import sys
import time
import unicodedata
import zipfile
from collections.abc import Iterable
from concurrent.futures import CancelledError
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

import cnnzoo
from cnnzoo.data import captcha as module
from cnnzoo.data.captcha import Captcha, DrawnCaptchas, FreshCaptchas
from cnnzoo.data.captcha_files import CaptchaFiles, SkippedFilesWarning, captchas, named, text_of, write_captchas

SMALL = {"charset": "01ab", "length": 3, "width": 90, "height": 40}


def test_image_follows_from_seed_split_and_number() -> None:
    captcha = Captcha()
    text, image = captcha.draw("train", 7)
    assert image.size == (180, 100)
    assert (len(text), set(text) <= set("0123456789")) == (4, True)
    again, same = captcha.draw("train", 7)
    assert (again, same.tobytes()) == (text, image.tobytes())
    others = [captcha.draw("test", 7), captcha.draw("train", 8), Captcha(seed=1).draw("train", 7)]
    assert all(other.tobytes() != image.tobytes() for _, other in others)


def test_text_is_the_same_everywhere() -> None:
    assert [Captcha().draw("train", number)[0] for number in range(4)] == ["2422", "1474", "7310", "7701"]


def test_package_draws_at_random_again_afterwards() -> None:
    import secrets

    from captcha import image

    Captcha().draw("train", 0)
    assert image.secrets is secrets


def test_texts_are_drawn_evenly() -> None:
    captcha = Captcha(charset="ab", length=1, width=40, height=40)
    texts = [captcha.draw("train", number)[0] for number in range(60)]
    assert 15 < texts.count("a") < 45


def test_images_and_labels() -> None:
    found = DrawnCaptchas(Captcha(**SMALL), "train").take(range(3))
    assert found.images.shape == (3, 3, 40, 90)
    assert found.classes == tuple("01ab")
    for number, (image, label) in enumerate(zip(found.images, found.labels, strict=True)):
        text, drawn = Captcha(**SMALL).draw("train", number)
        assert torch.equal(image, pil_to_tensor(drawn))
        assert "".join(found.classes[i] for i in label) == text


def test_processes_draw_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = DrawnCaptchas(Captcha(**SMALL), "train", processes=1)
    alone = drawn.take(range(5))
    assert drawn.pool is None
    monkeypatch.setattr(module, "SHARE", 2)
    begun = drawn.begin(range(5))
    assert drawn.pool is not None
    shared = drawn.take(range(5), begun)
    assert torch.equal(shared.images, alone.images)
    assert torch.equal(shared.labels, alone.labels)


def test_processes_do_not_wait_for_torch() -> None:
    import subprocess

    script = "import sys; import cnnzoo.data.captcha; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "False\n"


def test_data_set() -> None:
    sets = captchas(train=6, test=3, **SMALL)
    assert (len(sets["train"]), len(sets["test"])) == (6, 3)
    assert torch.equal(sets["test"].images, DrawnCaptchas(Captcha(**SMALL), "test").take(range(3)).images)
    fresh = captchas(train=6, test=3, fresh=True, **SMALL)["train"]
    assert isinstance(fresh, FreshCaptchas)
    assert (len(fresh), fresh.classes) == (6, tuple("01ab"))
    assert torch.equal(fresh.take(1, range(6)).images, sets["train"].images)
    assert not torch.equal(fresh.take(2, range(6)).images, sets["train"].images)


def test_a_program_that_ends_does_not_wait_for_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARE", 1)
    drawn = DrawnCaptchas(Captcha(**SMALL), "train", processes=1)
    fresh = FreshCaptchas(500, drawn)
    fresh.begin(1, range(500))
    assert fresh.begun
    started, (_, begun) = time.monotonic(), fresh.begun
    fresh.stop()
    with pytest.raises(CancelledError):
        list(begun)
    assert time.monotonic() - started < 5
    assert fresh.take(1, [0]).images.shape == (1, 3, 40, 90)  # and can begin again


def test_processes_end_with_a_program_that_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import time\n"
        "from cnnzoo.data.captcha import Captcha, DrawnCaptchas\n"
        "if __name__ == '__main__':\n"
        "    drawn = DrawnCaptchas(Captcha(), 'train', processes=2)\n"
        "    next(drawn.begin(range(200)))\n"
        "    print('drawing', flush=True)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"drawing\n"
        running.kill()
        running.communicate(timeout=60)  # its processes write to the same pipe, which ends when the last one has ended


def test_images_that_were_begun_are_not_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = DrawnCaptchas(Captcha(**SMALL), "train")
    fresh = FreshCaptchas(4, drawn)
    expected = fresh.take(2, [3, 1]).images
    fresh.begin(2, [3, 1])
    monkeypatch.setattr(drawn, "begin", lambda numbers: pytest.fail("drawn again"))
    assert torch.equal(fresh.take(2, [3, 1]).images, expected)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    done = []
    write_captchas(tmp_path / "some.zip", Captcha(**SMALL), train=5, test=2, advance=done.append)
    assert sum(done) == 7
    return tmp_path / "some.zip"


def test_archive_holds_what_would_be_drawn(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = captchas(train=5, test=2, **SMALL)
    monkeypatch.setitem(sys.modules, "captcha", None)  # and is read without the package
    found = captchas(archive, train=5, test=2, **SMALL)
    for split in ("train", "test"):
        assert torch.equal(found[split].images, drawn[split].images)
        assert torch.equal(found[split].labels, drawn[split].labels)
    assert archive.stat().st_size < 5 * 7000


def test_epochs_take_the_next_images_of_an_archive(archive: Path) -> None:
    whole = CaptchaFiles(archive).read("train", Captcha(**SMALL))
    fresh = captchas(archive, train=2, test=2, fresh=True, **SMALL)["train"]
    taken = [fresh.take(epoch, range(2)).images for epoch in (1, 2, 3)]
    assert torch.equal(torch.cat(taken), whole.images[[0, 1, 2, 3, 4, 0]])


def test_folder_of_images_that_are_called_after_their_text(archive: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(archive).extractall(tmp_path / "folder")
    found = captchas(tmp_path / "folder", train=5, test=2, **SMALL)
    assert torch.equal(found["train"].images, captchas(archive, train=5, test=2, **SMALL)["train"].images)


def test_archives_and_folders_that_hold_something_else(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(
        cnnzoo.DataError, match=r"captchas: .* holds 5 images in train/, expected 9; .*--set data\.train=N takes fewer"
    ):
        captchas(archive, train=9, test=2)
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        cnnzoo.DataError, match=r"empty holds no images; expected some that are called after their text"
    ):
        captchas(tmp_path / "empty", train=9, test=2, fresh=True)
    (tmp_path / "no.zip").write_bytes(b"PK nothing")
    with pytest.raises(cnnzoo.DataError, match=r"no\.zip is no folder and no ZIP archive"):
        captchas(tmp_path / "no.zip")
    with pytest.raises(cnnzoo.DataError, match=r"there is no folder or archive .*nowhere"):
        captchas(tmp_path / "nowhere")
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "01a.png").write_bytes(b"nothing")
    with pytest.raises(cnnzoo.DataError, match=r"01a\.png is not an image"):
        captchas(tmp_path / "f")
    (tmp_path / "facts.json").write_text("[]")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as other:
        other.write(tmp_path / "facts.json", "captchas.json")
    with pytest.raises(cnnzoo.DataError, match=r"captchas\.json does not say what was drawn"):
        captchas(tmp_path / "other.zip")


def written(folder: Path, names: Iterable[str], size: tuple[int, int] = (30, 12)) -> Path:
    """A folder with an image of its own for each name."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (number, 0, 0)).save(path, "PNG")
    return folder


TEXTS = ["2A", "3B", "4C", "2B", "3C", "4A", "2C", "3A", "4B", "22"]


def zipped(folder: Path, inside: str = "") -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.rglob("*.*"):
            archive.write(file, inside + file.relative_to(folder).as_posix())
    return path


@pytest.mark.parametrize("form", ["folder", "archive", "archive of the folder"])
@pytest.mark.parametrize("parts", [("train", "test"), ("train", "val"), ("",)], ids="-".join)
def test_facts_follow_from_the_files(tmp_path: Path, form: str, parts: tuple[str, ...]) -> None:
    names = [f"{parts[i % len(parts)]}/{text}_{i}.png".lstrip("/") for i, text in enumerate(TEXTS)]
    place = written(tmp_path / "images", names)
    if form != "folder":
        place = zipped(place, "images/" if form == "archive of the folder" else "")
    sets = captchas(place)
    assert sets["train"].classes == sets["test"].classes == tuple("234ABC")
    assert sets["train"].images.shape[1:] == (3, 12, 30)
    assert sets["train"].labels.shape[1] == 2
    counts = (8, 2) if parts == ("",) else (5, 5)
    assert (len(sets["train"]), len(sets["test"])) == counts
    numbers = torch.cat([sets["train"].images[:, 0, 0, 0], sets["test"].images[:, 0, 0, 0]])
    assert sorted(numbers.tolist()) == list(range(10))  # every image is in one part
    for part in sets.values():
        for image, label in zip(part.images, part.labels, strict=True):
            assert "".join(part.classes[i] for i in label) == TEXTS[image[0, 0, 0]]


def test_flat_folder_is_split_by_seed(tmp_path: Path) -> None:
    place = written(tmp_path / "a", [f"{text}.png" for text in TEXTS])
    moved = written(tmp_path / "b", [f"{text}.png" for text in TEXTS])

    def held_out(folder: Path, seed: int) -> list[int]:
        return captchas(folder, seed=seed)["test"].images[:, 0, 0, 0].tolist()

    assert held_out(place, 0) == held_out(place, 0) == held_out(moved, 0)
    assert len({tuple(held_out(place, seed)) for seed in range(5)}) > 1


def test_texts_of_any_length_are_filled_up(tmp_path: Path) -> None:
    place = written(tmp_path, ["train/ab.png", "train/abc.png", "test/b.png"])
    sets = captchas(place)
    assert sets["train"].labels.tolist() == [[0, 1, -1], [0, 1, 2]]
    assert sets["test"].labels.tolist() == [[1, -1, -1]]
    assert sets["test"].classes == tuple("abc")


STRAY = [".DS_Store", "Thumbs.db", "README.md", "labels.csv", "deep/er/ab.png", "._ab.png"]


@pytest.mark.parametrize("parts", ["", "train/"])
@pytest.mark.parametrize("form", ["folder", "archive"])
def test_stray_files_are_skipped_and_listed(tmp_path: Path, form: str, parts: str) -> None:
    place = written(tmp_path / "images", [f"{parts}{text}.png" for text in TEXTS])
    written(place, ["test/ab.png"] if parts else [])
    for name in STRAY:
        (place / parts / name).parent.mkdir(parents=True, exist_ok=True)
        (place / parts / name).write_bytes(b"what")
    if form == "archive":
        place = zipped(place)
    with pytest.warns(SkippedFilesWarning, match=r"^skipped 6 of the files in .*DS_Store.*, \.\.\.") as warned:
        sets = captchas(place)
    assert len(warned) == 1
    assert warned[0].filename == __file__
    assert len(sets["train"]) == (10 if parts else 8)


@given(st.text(min_size=1, max_size=6), st.integers(0, 9_999_999))
def test_any_text_can_be_the_name_of_a_file(text: str, number: int) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:  # half a character
        return
    name = f"{named(text, number)}.webp"
    assert re.fullmatch(r"[0-9A-Za-z%]+_\d+\.webp", name)
    assert text_of(f"folder/{name}") == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("4821.png", "4821"),
        ("4821_1539937370.png", "4821"),
        ("4821.17.png", "4821"),
        ("a/b/4821_a_b.c.png", "4821"),
        ("%2F%5f%2E_1.png", "/_."),
        ("a-b c.png", "a-b c"),
        ("ä€.png", "ä€"),
        ("a\u0308.png", "ä"),
        ("100%.png", "100%"),
    ],
)
def test_name_ends_at_the_first_underscore_or_dot(name: str, text: str) -> None:
    assert text_of(name) == text


def test_any_character_can_be_drawn_and_read(tmp_path: Path) -> None:
    captcha = Captcha("/_.%", 3, 60, 30)
    write_captchas(tmp_path / "odd.zip", captcha, train=6, test=2)
    zipfile.ZipFile(tmp_path / "odd.zip").extractall(tmp_path / "odd")
    drawn = captchas(charset="/_.%", length=3, width=60, height=30, train=6, test=2)
    for place in (tmp_path / "odd.zip", tmp_path / "odd"):
        found = captchas(place, train=6, test=2)
        assert torch.equal(found["train"].labels, drawn["train"].labels)
        assert torch.equal(found["train"].images, drawn["train"].images)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (
            {"charset": "234AB"},
            r"got charset='234AB', and .*C.*\.png says '\dC', .* state '234ABC', or leave out charset=",
        ),
        (
            {"length": 3},
            r"got length=3, and .*\.png says '\w\w', with 2 characters; leave out length= \(data\.length\)",
        ),
        ({"length": (3, 5)}, r"got length=\(3, 5\), and .* with 2 characters"),
        ({"width": 31}, r"got width=31, and the images of .* are 30x12 pixels; leave out width= \(data\.width\)"),
        ({"height": 30}, r"got height=30, and the images of .* are 30x12 pixels; leave out height= \(data\.height\)"),
    ],
)
def test_message_names_the_setting_that_is_wrong(tmp_path: Path, facts: dict, message: str) -> None:
    place = written(tmp_path, [f"{text}.png" for text in TEXTS])
    with pytest.raises(cnnzoo.DataError, match=f"^captchas: {message}"):
        captchas(place, **facts)


def test_what_is_stated_may_be_more_than_what_occurs(tmp_path: Path) -> None:
    place = written(tmp_path, [f"{text}.png" for text in TEXTS])
    sets = captchas(place, charset="ZCBA432", length=(1, 3), width=30, height=12)
    assert sets["train"].classes == tuple("ZCBA432")
    assert sets["train"].labels.shape[1] == 3


def test_images_of_two_sizes(tmp_path: Path) -> None:
    place = written(tmp_path, ["train/ab.png", "test/ab.png"])
    written(place, ["train/ba.png"], (31, 12))
    with pytest.raises(
        cnnzoo.DataError, match=r"ba\.png is 31x12 pixels, and the others are 30x12; make them all of one"
    ):
        captchas(place)


@pytest.mark.parametrize("name", ["_17.png", "%FF.png"])
def test_name_that_says_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(cnnzoo.DataError, match=r"is not called after its text; expected 4821\.png or 4821_17\.png"):
        captchas(written(tmp_path, [name]))


@pytest.mark.parametrize("length", [(4, 6), [4, 6]])
def test_lengths_are_drawn_evenly(length) -> None:
    captcha = Captcha(length=length, width=160, height=60)
    texts = [captcha.draw("train", number)[0] for number in range(60)]
    counts = [sum(len(text) == n for text in texts) for n in (4, 5, 6)]
    assert sum(counts) == 60
    assert min(counts) > 9
    assert captcha.draw("train", 3)[1].size == (160, 60)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"length": 0}, r"got length=0; it is a number of characters, or the fewest and the most: \(4, 6\)"),
        ({"length": (6, 4)}, r"got length=\(6, 4\)"),
        ({"length": (1, 2, 3)}, r"got length=\(1, 2, 3\)"),
        ({"charset": ""}, r"got charset=''; it holds at least one character, each once"),
        ({"charset": "aa"}, r"got charset='aa'"),
        ({"width": 0}, r"got 0x100 pixels; width and height are at least 1"),
    ],
)
def test_captchas_that_cannot_be(facts: dict, message: str) -> None:
    with pytest.raises(cnnzoo.OptionError, match=message):
        Captcha(**facts)
    with pytest.raises(cnnzoo.OptionError, match=f"captchas: {message}"):
        captchas(train=1, test=1, **facts)


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captcha", None)
    with pytest.raises(
        cnnzoo.DataError,
        match=r"captchas: drawing CAPTCHAs takes the captcha package.*pip install 'cnnzoo\[captcha\]', or name a file",
    ):
        captchas(train=1, test=1)
    monkeypatch.setattr(module, "SHARE", 1)
    with pytest.raises(cnnzoo.DataError, match=r"takes the captcha package"):
        captchas(train=4, test=1)


def test_package_that_cannot_be_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    from captcha import image

    monkeypatch.delattr(image, "secrets")
    with pytest.raises(cnnzoo.DataError, match=r"cannot be given a seed; install 0\.7 or newer"):
        captchas(train=1, test=1)
