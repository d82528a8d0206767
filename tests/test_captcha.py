"""The CAPTCHA networks: texts to targets and back, and the accuracy of both kinds."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import cnnzoo

NAMES = ["captcha_cnn", "captcha_cnn_small"]
READER = cnnzoo.captcha_cnn_small(charset="0123456789abc", length=5, image_size=(40, 120))


def test_parameters() -> None:
    count = {name: sum(p.numel() for p in cnnzoo.create(name, device="meta").parameters()) for name in NAMES}
    assert count["captcha_cnn"] == 4_018_888
    assert count["captcha_cnn_small"] <= 250_000


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("charset", "length", "image_size"), [("ab", 1, (32, 32)), ("0123456789abcdef", 6, (60, 161))])
def test_any_charset_length_and_size(name: str, charset: str, length: int, image_size: tuple[int, int]) -> None:
    model = getattr(cnnzoo, name)(charset=charset, length=length, image_size=image_size)
    scores = model(torch.zeros(2, 3, *image_size))
    assert scores.shape == (2, length * len(charset))
    assert [len(text) for text in model.decode(scores)] == [length, length]


@settings(deadline=None)
@given(st.lists(st.text(alphabet=READER.charset, min_size=5, max_size=5), min_size=1, max_size=4))
def test_decode_undoes_encode(texts: list[str]) -> None:
    target = READER.encode(texts)
    assert target.shape == (len(texts), 5 * 13)
    assert target.sum(1).tolist() == [5] * len(texts)
    assert READER.decode(target) == texts
    assert READER.decode(READER.encode(texts[0])) == texts[:1]


def test_target_has_the_layout_of_the_scores() -> None:
    target = cnnzoo.captcha_cnn().encode("0931").unflatten(0, (4, 10))
    assert target.argmax(1).tolist() == [0, 9, 3, 1]


def test_accuracy_of_characters_and_of_whole_captchas() -> None:
    scores = READER.encode(["00000", "abcab", "12345"])
    result = READER.accuracy(scores, ["00000", "abcac", "54321"])
    assert result.character == pytest.approx((5 + 4 + 1) / 15)
    assert result.captcha == pytest.approx(1 / 3)


def test_reset_charset() -> None:
    model = cnnzoo.create("captcha_cnn_small", device="meta")
    model.reset_charset("xyz", 2)
    assert model.fc.out_features == model.num_classes == 6
    assert model.decode(model.encode("zx")) == ["zx"]
    assert (model.config.options["charset"], model.config.options["length"]) == ("xyz", 2)
    with pytest.raises(cnnzoo.OptionError, match="got charset='xx'"):
        model.reset_charset("xx", 2)


def test_learns_to_read_two_images() -> None:
    model = cnnzoo.create("captcha_cnn_small", charset="01", length=2, image_size=(24, 48), seed=0)
    images = torch.rand(2, 3, 24, 48, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(30):
        optimizer.zero_grad()
        torch.nn.functional.multilabel_soft_margin_loss(model(images), model.encode(["01", "10"])).backward()
        optimizer.step()
    assert model.accuracy(model(images), ["01", "10"]).captcha == 1


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: READER.encode("0123"), cnnzoo.OptionError, r"encode: '0123' has 4 characters; this network reads 5"),
        (lambda: READER.encode("0123x"), cnnzoo.UnknownNameError, r"encode: unknown character 'x'"),
        (
            lambda: READER.decode(torch.zeros(2, 40)),
            cnnzoo.OptionError,
            r"decode: got scores of shape \(2, 40\).*\(N, 65\)",
        ),
        (
            lambda: READER.accuracy(torch.zeros(2, 65), ["00000"]),
            cnnzoo.OptionError,
            r"scores of 2 images and 1 texts",
        ),
        (lambda: cnnzoo.captcha_cnn(charset="aab"), cnnzoo.OptionError, r"got charset='aab'; .*each once"),
        (lambda: cnnzoo.captcha_cnn(charset=""), cnnzoo.OptionError, r"at least one character"),
        (
            lambda: cnnzoo.captcha_cnn(length=0),
            cnnzoo.OptionError,
            r"got length=0; a CAPTCHA has at least one character",
        ),
        (lambda: cnnzoo.captcha_cnn(image_size=(8, 100)), cnnzoo.ShapeError, r"the output is empty"),
    ],
)
def test_bad_input(call, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()
