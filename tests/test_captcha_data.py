"""CAPTCHAs: the same from the same seed, drawn by processes or not, and from archives and folders."""

import subprocess
import sys
import time
import zipfile
from concurrent.futures import CancelledError
from pathlib import Path

import pytest
import torch
from torchvision.transforms.v2.functional import pil_to_tensor

import cnnzoo
from cnnzoo.data import captcha as module
from cnnzoo.data.captcha import Captcha, DrawnCaptchas, FreshCaptchas, captchas, read_captchas, write_captchas

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
    whole = read_captchas(archive, "train", Captcha(**SMALL))
    fresh = captchas(archive, train=2, test=2, fresh=True, **SMALL)["train"]
    taken = [fresh.take(epoch, range(2)).images for epoch in (1, 2, 3)]
    assert torch.equal(torch.cat(taken), whole.images[[0, 1, 2, 3, 4, 0]])


def test_folder_of_images_that_are_called_after_their_text(archive: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(archive).extractall(tmp_path / "folder")
    found = captchas(tmp_path / "folder", train=5, test=2, **SMALL)
    assert torch.equal(found["train"].images, captchas(archive, train=5, test=2, **SMALL)["train"].images)


def test_archives_and_folders_that_hold_something_else(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(
        cnnzoo.DataError, match=r"holds 5 images in train/, expected 9; .*--set data\.train=N takes fewer"
    ):
        captchas(archive, train=9, test=2, **SMALL)
    with pytest.raises(cnnzoo.DataError, match=r"holds 0 images in train/, expected some"):
        captchas(tmp_path, train=9, test=2, fresh=True)
    with pytest.raises(cnnzoo.DataError, match=r"-\w{3}\.webp is not called after its text; expected 4 characters of"):
        captchas(archive, train=5, test=2)
    with pytest.raises(cnnzoo.DataError, match=r"is 90x40 pixels; expected 91x40 \(--set data\.width"):
        captchas(archive, train=5, test=2, **SMALL | {"width": 91})
    (tmp_path / "no.zip").write_bytes(b"PK nothing")
    with pytest.raises(cnnzoo.DataError, match=r"no\.zip is not an archive that `cnnzoo captchas` has written"):
        captchas(tmp_path / "no.zip")
    (tmp_path / "f" / "train").mkdir(parents=True)
    (tmp_path / "f" / "train" / "01a.png").write_bytes(b"nothing")
    with pytest.raises(cnnzoo.DataError, match=r"01a\.png is not an image"):
        captchas(tmp_path / "f", train=1, test=1, **SMALL)


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captcha", None)
    with pytest.raises(
        cnnzoo.DataError, match=r"takes the captcha package.*pip install 'cnnzoo\[captcha\]', or name a file"
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
