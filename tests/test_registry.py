"""The registry and what is built from it."""

import copy
import pickle
import re
import subprocess
import sys

import pytest
import torch
from torch import nn

import cnnzoo
from cnnzoo import registry
from cnnzoo.errors import suggestion
from cnnzoo.registry import Config, Paper, register

PAPER = Paper("lenet")


@pytest.fixture
def scratch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that the test may add to."""
    monkeypatch.setattr(registry, "_specs", dict(registry._specs))


def test_list_models() -> None:
    names = cnnzoo.list_models()
    assert names == sorted(
        names, key=lambda name: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
    )
    assert {"lenet5", "captcha_cnn", "convnet"} <= set(names)
    assert cnnzoo.list_models("tutorial_l*") == ["tutorial_lenet5_linear", "tutorial_lenet5_sigmoid"]
    assert cnnzoo.list_models(family="captcha") == ["captcha_cnn", "captcha_cnn_small"]
    assert "lenet5" in cnnzoo.list_models(classic=True)
    assert "convnet" not in cnnzoo.list_models(classic=True)
    assert set(cnnzoo.list_models(classic=True)) | set(cnnzoo.list_models(classic=False)) == set(names)
    assert "lenet5" in cnnzoo.list_models(pretrained=True)
    assert "lenet5" not in cnnzoo.list_models(pretrained=False)


def test_spec() -> None:
    spec = cnnzoo.spec("lenet5")
    assert (spec.family, spec.kind, spec.input_shape, spec.has_classic) == ("lenet", "model", (1, 28, 28), True)
    assert spec.build is cnnzoo.lenet5
    assert spec.paper.title == "Gradient-Based Learning Applied to Document Recognition"
    assert "LeCun" in spec.paper.citation
    assert spec.paper.url.startswith("https://doi.org/")
    assert spec.checkpoints[0] == "mnist"
    assert spec.summary.startswith("LeNet-5 for 28x28 images")


@pytest.mark.parametrize("name", cnnzoo.list_models(kind=None))
def test_spec_tells_what_the_default_network_takes(name: str) -> None:
    spec = cnnzoo.spec(name)
    if spec.kind == "model":
        assert cnnzoo.create(spec.name, device="meta").input_shape == spec.input_shape
    assert spec.paper.citation


@pytest.mark.parametrize("name", ["lenet5", "basic_block"])
def test_a_spec_is_pickled_as_the_one_that_it_is(name: str) -> None:
    spec = cnnzoo.spec(name)
    assert pickle.loads(pickle.dumps(spec)) is spec
    assert copy.deepcopy(spec) is spec
    script = "import pickle, sys; print(pickle.load(sys.stdin.buffer).build.__name__)"
    run = subprocess.run([sys.executable, "-c", script], input=pickle.dumps(spec), capture_output=True, check=True)
    assert run.stdout.decode().strip() == name


def test_config_notes_every_argument() -> None:
    model = cnnzoo.lenet5(classic=True, in_channels=3)
    assert model.config == Config("lenet5", model.config.options)
    assert model.config.classic
    assert model.config.options.keys() == cnnzoo.spec("lenet5").parameters.keys()
    assert model.config.options["in_channels"] == 3
    assert cnnzoo.CNN({}).config is None


def test_register(scratch: None) -> None:
    @register(PAPER, input_shape=(3, 8, 8), kind="block")
    def a_block(*, width: int = 2) -> nn.Conv2d:
        """A block."""
        return nn.Conv2d(3, width, 3)

    assert a_block.__name__ == "a_block"
    assert a_block(width=5).out_channels == 5
    assert "a_block" in cnnzoo.list_models(kind="block")
    assert "a_block" not in cnnzoo.list_models()
    built = cnnzoo.create(cnnzoo.spec("a_block").name, width=4, seed=1)
    assert built.config == Config("a_block", {"width": 4})

    def lenet5() -> nn.Module:
        return nn.Identity()

    with pytest.raises(cnnzoo.OptionError, match=r"register: the name 'lenet5' is taken by cnnzoo\.models\.lenet"):
        register(PAPER, input_shape=(3, 8, 8))(lenet5)

    def positional(width: int = 2) -> nn.Module:
        return nn.Identity()

    with pytest.raises(
        cnnzoo.OptionError, match=r"positional: parameter width: int = 2 is not keyword-only; put \* before"
    ):
        register(PAPER, input_shape=(3, 8, 8))(positional)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: cnnzoo.create("lenet"),
            cnnzoo.UnknownNameError,
            r"create: unknown network 'lenet': did you mean 'lenet5'\?",
        ),
        (lambda: cnnzoo.create("LeNet5"), cnnzoo.UnknownNameError, r"did you mean 'lenet5'\?"),
        (lambda: cnnzoo.spec("tutorial_mnist"), LookupError, r"'tutorial_mnist_cnn' or 'tutorial_mnist_cnn_small'"),
        (lambda: cnnzoo.create("xyzzy"), cnnzoo.UnknownNameError, r"unknown network 'xyzzy'.*cnnzoo list"),
        (
            lambda: cnnzoo.create("lenet5", clasic=True),
            cnnzoo.OptionError,
            r"unknown option 'clasic': did you mean 'classic'",
        ),
        (
            lambda: cnnzoo.create("convnet", classic=True),
            ValueError,
            r"create: convnet takes no classic=, which would change nothing",
        ),
        (
            lambda: cnnzoo.create("lenet5", dropout=0.5),
            cnnzoo.OptionError,
            r"unknown option 'dropout'.*It takes classic,",
        ),
        (
            lambda: cnnzoo.list_models(family="lenets"),
            cnnzoo.UnknownNameError,
            r"unknown family 'lenets': did you mean 'lenet'",
        ),
        (lambda: cnnzoo.verify("convnet", classic=True), cnnzoo.OptionError, r"verify: convnet takes no classic="),
        (lambda: cnnzoo.lenet6, AttributeError, r"unknown name 'lenet6': did you mean 'lenet5'"),
    ],
)
def test_names_and_options_that_do_not_exist(call, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()


def test_misspelt_name_is_a_cnnzoo_error_and_a_lookup_error() -> None:
    assert issubclass(cnnzoo.UnknownNameError, (cnnzoo.CnnzooError, LookupError))
    assert not issubclass(cnnzoo.UnknownNameError, KeyError)  # whose text is quoted


def test_default_device_is_respected() -> None:
    with torch.device("meta"):
        assert cnnzoo.lenet5().c1.weight.is_meta
    assert not cnnzoo.lenet5().c1.weight.is_meta


def test_seed_does_not_depend_on_the_global_generator() -> None:
    torch.manual_seed(1)
    one = cnnzoo.create("convnet", seed=7)
    torch.manual_seed(2)
    two = cnnzoo.create("convnet", seed=7)
    assert torch.equal(one.fc1.weight, two.fc1.weight)


def test_shared_tensors_stay_shared(scratch: None) -> None:
    @register(PAPER, input_shape=(1, 4, 4), kind="block")
    def tied() -> nn.Module:
        """Two layers with one weight."""
        pair = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        pair[1].weight = pair[0].weight
        return pair

    pair = tied()
    assert pair[1].weight is pair[0].weight
    assert not pair[0].weight.is_meta


def test_chain_slices_share_their_layers() -> None:
    model = cnnzoo.lenet5()
    head, rest = model[:3], model[3:]
    assert list(dict(head.named_children())) == ["c1", "tanh1", "s2"]
    x = torch.randn(1, 1, 28, 28)
    assert torch.equal(rest(head(x)), model(x))
    assert head.c1 is model.c1 is model[0]
    assert head.input_shape == (1, 28, 28)


def test_reset_classifier_needs_a_linear_end() -> None:
    with pytest.raises(cnnzoo.OptionError, match=r"reset_classifier: CNN does not end in a linear layer"):
        cnnzoo.lenet5()[:3].reset_classifier(5)


def test_public_names_resolve_and_are_listed() -> None:
    names = dir(cnnzoo)
    assert {"create", "lenet5", "LeNet5", "output_size", "verify", "initialization", "nn"} <= set(names)
    assert all(getattr(cnnzoo, name) is not None for name in names)
    script = (
        "from cnnzoo import create, lenet5; import cnnzoo; assert (create, lenet5) == (cnnzoo.create, cnnzoo.lenet5)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_suggestions_name_only_what_is_about_as_near() -> None:
    known = ["lenet5", "alexnet", "resnet50", "resnet18"]
    assert suggestion("lenet", known) == "did you mean 'lenet5'?"
    assert suggestion("resnet5", known) == "did you mean 'resnet50'?"
    assert suggestion("resnet1", ["resnet18", "resnet50", "resnet10"]).startswith("did you mean 'resnet1")
    assert " or " in suggestion("resnet1", ["resnet18", "resnet10"])
