"""The CAPTCHA networks: texts to targets and back, and the accuracy of both kinds."""

import itertools
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import cnnzoo
from cnnzoo.nn.recurrent import BidirectionalLSTM
from cnnzoo.training.losses import CTC

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


OTHERS = [
    {"charset": "abcdefghij", "length": 4},  # as many scores as before, which mean something else
    {"charset": "0123456789abcdef", "length": 5},
    {"length": 5},
    {"charset": "23456789", "length": 4, "image_size": (24, 72), "in_channels": 1},
    {"image_size": (48, 90)},
]


@pytest.mark.parametrize("options", OTHERS, ids=str)
@pytest.mark.parametrize("place", ["package", "folder"])
def test_weights_adapt_to_other_captchas(tmp_path: Path, options: dict, place: str) -> None:
    trained = cnnzoo.load_pretrained("captcha_cnn_small")
    name = "captcha_cnn_small"
    if place == "folder":
        cnnzoo.save_pretrained(trained, tmp_path)
        name = str(tmp_path)
    with pytest.warns(
        cnnzoo.FreshLayerWarning, match=r"captcha_cnn_small: starts afresh: fc; .* fits .*; train it"
    ) as all_:
        model: Any = cnnzoo.load_pretrained(name, **options)
    assert all(str(value) in str(all_[0].message) for key, value in options.items() if key != "in_channels")
    assert cnnzoo.spec("captcha_cnn_small").is_same(trained.config.options | options, model.config.options)
    assert all(model.config.options[key] == value for key, value in options.items())
    channels, *size = model.input_shape
    assert model.checkpoint.preprocessing.input_shape == (channels, *size)
    assert model(torch.rand(2, channels, *size)).shape == (2, len(model.charset) * model.length)
    assert torch.equal(model.conv5.weight, trained.conv5.weight)
    assert not torch.equal(model.fc.weight[:9, :9], trained.fc.weight[:9, :9])


def test_weights_for_the_same_captchas_are_whole() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = cnnzoo.load_pretrained("captcha_cnn_small", charset="0123456789", length=4, image_size=(100, 180))
    assert torch.equal(model.fc.weight, cnnzoo.load_pretrained("captcha_cnn_small").fc.weight)


CRNN = cnnzoo.captcha_crnn(charset="abc", image_size=(32, 64))


def scores_of(paths: list[str], charset: str = "abc") -> torch.Tensor:
    """Scores whose likeliest paths these are; `-` is the blank."""
    columns = torch.tensor([[(charset + "-").index(character) for character in path] for path in paths])
    return 9.0 * torch.nn.functional.one_hot(columns, len(charset) + 1)


@pytest.mark.parametrize(
    ("path", "text"),
    [("aabbcc", "abc"), ("a-a--b", "aab"), ("------", ""), ("-aa-a-", "aa"), ("bbbbbb", "b"), ("abcabc", "abcabc")],
)
def test_repetitions_and_blanks_are_left_out(path: str, text: str) -> None:
    scores = scores_of([path, "cccccc"])
    for form in (scores, scores.numpy(), scores.tolist()):
        assert CRNN.decode(form) == CRNN.decode(form, beam=3) == [text, "c"]
    assert CRNN.decode(scores[0]) == [text]


def all_texts(scores: torch.Tensor) -> dict[str, float]:
    """Of one image's scores every text with its probability, by adding up every path there is."""
    found: dict[str, float] = {}
    shares = scores.double().softmax(1)
    for path in itertools.product(range(scores.shape[1]), repeat=len(scores)):
        share = math.prod(shares[column, label].item() for column, label in enumerate(path))
        text = "".join("abc-"[label] for label, _ in itertools.groupby(path)).replace("-", "")
        found[text] = found.get(text, 0.0) + share
    return found


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.integers(1, 5))
def test_beam_finds_the_likeliest_text_and_shares_add_up_its_paths(seed: int, columns: int) -> None:
    scores = 2 * torch.randn(1, columns, 4, generator=torch.Generator().manual_seed(seed))
    known = all_texts(scores[0])
    assert known[CRNN.decode(scores, beam=10_000)[0]] == pytest.approx(max(known.values()))
    _, shares = CRNN.rated(scores)
    assert shares.item() == pytest.approx(known[CRNN.decode(scores)[0]], rel=1e-4)


def test_beam_may_find_what_the_path_does_not() -> None:
    column = torch.tensor([0.4, 0.0, 0.0, 0.6]).clamp(min=1e-9).log()
    scores = torch.stack([column, column])[None]  # the path says nothing (0.36), the paths of "a" together 0.64
    assert CRNN.decode(scores) == [""]
    assert CRNN.decode(scores, beam=2) == ["a"]


def test_width_may_be_another_in_every_batch() -> None:
    model = CRNN.eval()
    for width, columns in ((32, 4), (64, 8), (131, 16)):
        assert model(torch.zeros(2, 1, 32, width)).shape == (2, columns, 4)


def test_crnn_encodes_texts_as_labels() -> None:
    assert CRNN.encode("cab").tolist() == [2, 0, 1]
    assert CRNN.encode(["cab", "b", ""]).tolist() == [[2, 0, 1], [1, -1, -1], [-1, -1, -1]]


def test_crnn_accuracy_counts_missing_wrong_and_superfluous_characters() -> None:
    scores = scores_of(["a-b-c-", "a-b---", "a-a-b-", "c-c-c-"])
    result = CRNN.accuracy(scores, ["abc", "abc", "ab", "a"])
    assert result.captcha == pytest.approx(1 / 4)
    assert result.character == pytest.approx(1 - (0 + 1 + 1 + 1) / 9)  # no more mistakes than characters


def test_crnn_learns_to_read_texts_of_two_lengths() -> None:
    model = cnnzoo.create("captcha_crnn", charset="01", image_size=(24, 48), seed=0)
    images = torch.rand(2, 1, 24, 48, generator=torch.Generator().manual_seed(0))
    texts, criterion = ["0", "101"], CTC()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(30):
        optimizer.zero_grad()
        criterion(model(images), model.encode(texts)).backward()
        optimizer.step()
    assert model.accuracy(model(images), texts).captcha == 1


def test_own_lstm_is_torchs() -> None:
    own, theirs = BidirectionalLSTM(5, 3), torch.nn.LSTM(5, 3, batch_first=True, bidirectional=True)
    theirs.load_state_dict(own.state_dict())
    steps = torch.randn(2, 7, 5)
    assert torch.equal(own(steps), theirs(steps)[0])
    assert all(value.abs().max() <= 3**-0.5 for value in own.parameters())
    assert own.weight_ih_l0.abs().max() > 0.4


@pytest.mark.parametrize("layer", ["rnn", "fc"])
def test_multiply_adds_of_the_sequence_are_counted(layer: str) -> None:
    rows = {row.name: row for row in cnnzoo.summary("captcha_crnn").layers}
    # Four gates of 128 units see 384 features and 128 states, in both directions, at each of 20 columns.
    expected = {"rnn": 20 * 2 * 4 * 128 * (384 + 128), "fc": 20 * 256 * 37}
    assert rows[layer].macs == expected[layer]


NAN = torch.full((2, 65), torch.nan)


@pytest.mark.parametrize("kind", ["tensor", "array", "list"])
def test_arrays_are_taken(kind: str) -> None:
    target = READER.encode(["00000", "abcab"])
    form = {"tensor": target, "array": target.numpy(), "list": target.tolist()}[kind]
    assert READER.decode(form) == ["00000", "abcab"]
    assert READER.accuracy(form, ["00000", "abcab"]).captcha == 1


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: READER.decode(NAN),
            cnnzoo.OptionError,
            r"decode: got scores that are not numbers \(NaN\), for 2 of 2",
        ),
        (lambda: READER.decode(NAN.numpy()), cnnzoo.OptionError, r"decode: got scores that are not numbers \(NaN\)"),
        (lambda: READER.accuracy(NAN, ["00000"] * 2), cnnzoo.OptionError, r"accuracy: got scores that are not numbers"),
        (
            lambda: READER.decode("scores"),
            cnnzoo.OptionError,
            r"decode: got str, which is no tensor or array of scores",
        ),
        (
            lambda: READER.accuracy(torch.zeros(2, 65), ["00000", "0000"]),
            cnnzoo.OptionError,
            r"accuracy: '0000' has 4 characters; this network reads 5",
        ),
        (
            lambda: CRNN.decode(torch.full((1, 3, 4), torch.nan)),
            cnnzoo.OptionError,
            r"decode: got scores that are not numbers \(NaN\), for 1 of 1 images",
        ),
        (
            lambda: CRNN.decode(torch.zeros(1, 3, 5)),
            cnnzoo.OptionError,
            r"decode: got scores of shape \(1, 3, 5\); this network gives \(N, columns, 4\)",
        ),
        (lambda: CRNN.decode(torch.zeros(1, 3, 4), beam=0), cnnzoo.OptionError, r"decode: got beam=0; it is 1"),
        (lambda: CRNN.encode("abd"), cnnzoo.UnknownNameError, r"encode: unknown character 'd'"),
        (
            lambda: CRNN.accuracy(torch.zeros(2, 3, 4), ["a"]),
            cnnzoo.OptionError,
            r"accuracy: got scores of 2 images and 1 texts; state one for each",
        ),
        (lambda: CRNN.reset_charset("aa"), cnnzoo.OptionError, r"reset_charset: got charset='aa'"),
        (lambda: cnnzoo.captcha_crnn(charset=""), cnnzoo.OptionError, r"at least one character"),
        (lambda: cnnzoo.captcha_crnn(image_size=(8, 100)), cnnzoo.ShapeError, r"the output is empty"),
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
            r"captcha_cnn: got length=0, expected a whole number of at least 1",
        ),
        (lambda: cnnzoo.captcha_cnn(image_size=(8, 100)), cnnzoo.ShapeError, r"the output is empty"),
    ],
)
def test_bad_input(call, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()


@pytest.mark.parametrize(
    "asked", [{"charset": "abc"}, {"length": 5}, {"image_size": (60, 160)}, {"charset": "0123456789ab", "length": 6}]
)
def test_a_reader_of_other_captchas_claims_nothing_that_was_measured_on_these(asked: dict) -> None:
    known = cnnzoo.load_pretrained("captcha_cnn_small").checkpoint
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cnnzoo.FreshLayerWarning)
        adapted = cnnzoo.load_pretrained("captcha_cnn_small", **asked).checkpoint
    assert (known.accuracy, adapted.accuracy) == (0.996, None)
    assert (adapted.card, adapted.made_from) == ("", "captcha_cnn_small.captchas")
