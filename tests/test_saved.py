"""What a saved network says of itself: it loads as what it was, or is refused; and what is known of its weights."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import VARIANTS, Variant
from test_cli import fine, run
from torch import nn
from torch.nn.utils import parametrizations, prune

import cnnzoo
from cnnzoo import Checkpoint, Preprocessing
from cnnzoo.checkpoints.structure import FOR_TRAINING, SAID_ELSEWHERE, described, differences
from cnnzoo.checkpoints.weights import write_weights
from cnnzoo.data import samples
from cnnzoo.reader import CaptchaReader
from cnnzoo.support.files import plain
from cnnzoo.support.torch_private import attributes_of

SMALL = [one for one in VARIANTS if sum(p.numel() for p in one.build(device="meta").parameters()) < 9e6]


def leaves(model: nn.Module, kind: type | tuple = nn.Module) -> list[str]:
    return [name for name, one in model.named_modules() if name and isinstance(one, kind) and not [*one.children()]]


def other(value: Any) -> Any:
    """A value of the same kind that is not the same."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 2 + 1e-3
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, tuple):
        return tuple(map(other, value))
    if isinstance(value, torch.Tensor):
        return value + 1
    return 1 if value is None else None


# Refused -------------------------------------------------------------------------------------------------------------


def test_every_setting_of_every_kind_of_layer_is_compared(variant: Variant) -> None:
    model, planned = variant.build(device="meta"), variant.build(device="meta")
    assert not [*differences(model, planned)]
    seen: set[tuple[type, str]] = set()
    for path, module in model.named_modules():
        if not path:
            continue
        harmless = SAID_ELSEWHERE.union(*(names for kind, names in FOR_TRAINING.items() if isinstance(module, kind)))
        for name, value in attributes_of(module).items():
            if (type(module), name) in seen or name in harmless or isinstance(value, nn.Module):
                continue
            seen.add((type(module), name))
            vars(module)[name] = other(value)
            (said,) = differences(model, planned)
            assert said.startswith(f"{path}: {name}=")
            vars(module)[name] = value
    assert not [*differences(model, planned)]


def replaced_activation(model: nn.Module) -> None:
    (first, *_) = leaves(model, (nn.ReLU, nn.Tanh, nn.Sigmoid, cnnzoo.nn.ScaledTanh))
    model.set_submodule(first, nn.GELU())


def replaced_by_nothing(model: nn.Module) -> None:
    model.set_submodule(leaves(model)[0], nn.Identity())


def removed(model: nn.Module) -> None:
    name = leaves(model)[1]
    parent, _, last = name.rpartition(".")
    del model.get_submodule(parent)._modules[last]


def added(model: nn.Module) -> None:
    model.add_module("more", nn.ReLU())


def exchanged(model: nn.Module) -> None:
    names = list(model._modules)
    first, second = names[0], names[1]
    order = {name: model._modules[name] for name in (second, first, *names[2:])}
    model._modules.clear()
    model._modules.update(order)


def other_stride(model: nn.Module) -> None:
    layer: Any = model.get_submodule(leaves(model, nn.Conv2d)[0])
    layer.stride = tuple(one + 1 for one in layer.stride)


def other_pool(model: nn.Module) -> None:
    kinds = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, cnnzoo.nn.Subsample)
    name = leaves(model, kinds)[-1]
    model.set_submodule(name, nn.MaxPool2d(2, ceil_mode=True))


def other_dilation(model: nn.Module) -> None:
    name = leaves(model, nn.Conv2d)[-1]
    layer: Any = model.get_submodule(name)
    arguments = (layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding)
    same_tensors = {"groups": layer.groups, "bias": layer.bias is not None, "device": layer.weight.device}
    model.set_submodule(name, nn.Conv2d(*arguments, dilation=2, **same_tensors))


def pruned(model: nn.Module) -> None:
    prune.l1_unstructured(model.get_submodule(leaves(model, nn.Conv2d)[0]), "weight", 0.5)


def parametrized(model: nn.Module) -> None:
    parametrizations.orthogonal(model.get_submodule(leaves(model, nn.Conv2d)[0]), "weight")


def weight_normalised(model: nn.Module) -> None:
    parametrizations.weight_norm(model.get_submodule(leaves(model, nn.Conv2d)[0]))


def hooked(model: nn.Module) -> None:
    model.get_submodule(leaves(model)[0]).register_forward_hook(lambda module, inputs, output: output * 2)


def hooked_before(model: nn.Module) -> None:
    model.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 2,))


def own_forward(model: nn.Module) -> None:
    layer: Any = model.get_submodule(leaves(model)[0])
    forward = layer.forward
    layer.forward = lambda x: forward(x) * 2


def head_without_bias(model: Any) -> None:
    name, features = model.head or ("output", 84)
    model.set_submodule(name, nn.Linear(features, 3, bias=False))


def head_of_more_layers(model: Any) -> None:
    name, features = model.head or ("output", 84)
    model.set_submodule(name, nn.Sequential(nn.Dropout(), nn.Linear(features, 3)))


REFUSED = [
    *(replaced_activation, replaced_by_nothing, removed, added, exchanged, other_stride, other_pool, other_dilation),
    *(pruned, parametrized, weight_normalised, hooked, hooked_before, own_forward, head_without_bias),
    head_of_more_layers,
]
NEEDS_NUMBERS = {pruned, parametrized, weight_normalised}


def test_a_network_changed_by_hand_is_refused(variant: Variant) -> None:
    planned = variant.build(device="meta")
    for change in REFUSED:
        model = variant.build() if change in NEEDS_NUMBERS and variant in SMALL else copy.deepcopy(planned)
        active = leaves(model, (nn.ReLU, nn.Tanh, nn.Sigmoid, cnnzoo.nn.ScaledTanh))
        if (change in NEEDS_NUMBERS and variant not in SMALL) or (change is replaced_activation and not active):
            continue
        change(model)
        assert next(differences(model, planned), ""), change.__name__


@pytest.mark.parametrize("change", REFUSED, ids=lambda change: change.__name__)
@pytest.mark.parametrize("one", [Variant("lenet5", True), Variant("cifar_resnet20", False)], ids=str)
def test_a_network_changed_by_hand_is_not_saved(tmp_path: Path, one: Variant, change: Callable) -> None:
    model = one.build(seed=0)
    change(model)
    with pytest.raises(cnnzoo.CheckpointError, match="is not what its arguments describe, and would load as another"):
        cnnzoo.save_pretrained(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replaced_activation, r"tanh1: GELU\(approximate='none'\), described as Tanh\(\); change it by its constructor's"),
        (removed, r"s2 runs where tanh1 is described|tanh1 \(Tanh\(\)\) is missing; .*keep its state_dict"),
        (added, r"more \(ReLU\(\)\) is not described; "),
        (exchanged, "tanh1 runs where c1 is described"),
        (other_stride, r"c1: stride=\(2, 2\), described as \(1, 1\)"),
        (pruned, r"torch\.nn\.utils\.prune\.remove makes the pruning of c1 permanent"),
        (parametrized, r"c1: ParametrizedConv2d, described as Conv2d\(.*; torch\.nn\.utils\.parametrize\.remove_parametrizations makes plain weights of those of c1"),
        (hooked, r"c1: a hook that may change what it computes; remove the hook of c1 \(handle\.remove\(\)\)"),
        (own_forward, "c1: forward in place of what its class has"),
        (head_without_bias, "output: bias is missing"),
        (lambda model: model.c1.double(), r"tensors of torch\.float32, torch\.float64, with which it could not be loaded; bring them"),
        (lambda model: model.to("meta"), "on the meta device, which holds no numbers; create it on another"),
    ],
)  # fmt: skip
def test_the_refusal_says_what_and_what_to_do(tmp_path: Path, change: Callable, message: str) -> None:
    model = cnnzoo.create("lenet5", seed=0)
    change(model)
    with pytest.raises(cnnzoo.CheckpointError, match=rf"^save_pretrained: .*{message}"):
        cnnzoo.save_pretrained(model, tmp_path / "out")
    with pytest.raises(cnnzoo.CheckpointError, match=rf"^write_weights: .*{message}"):
        write_weights(model, tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []
    if message.startswith("tensors of") or "meta" in message:
        return
    write_weights(model.state_dict(), tmp_path / "a.safetensors")  # which says nothing of the network


def test_other_values_of_a_buffer_that_no_file_keeps_are_refused() -> None:
    model = cnnzoo.create("lenet5", classic=True)
    model.c3.index[0] = 3
    with pytest.raises(cnnzoo.CheckpointError, match="c3: index holds other values, which no file keeps"):
        described(model)


def test_the_way_that_is_named_works(tmp_path: Path) -> None:
    model = cnnzoo.create("lenet5", seed=0).eval()
    pruned(model)
    prune.remove(model.c1, "weight")
    parametrizations.weight_norm(model.c5)
    nn.utils.parametrize.remove_parametrizations(model.c5, "weight")
    handle = model.register_forward_hook(lambda module, inputs, output: None)
    handle.remove()
    cnnzoo.save_pretrained(model, tmp_path)
    images = torch.rand(2, 1, 28, 28)
    assert torch.equal(cnnzoo.load_pretrained(tmp_path)(images), model(images))


# Described -----------------------------------------------------------------------------------------------------------


def head_replaced(model: Any) -> cnnzoo.CNN | None:
    if model.head is None or isinstance(model, CaptchaReader):
        return None
    name, features = model.head
    model.set_submodule(name, nn.Linear(features, 3))
    return model


def head_removed(model: Any) -> cnnzoo.CNN | None:
    if model.head is None or isinstance(model, CaptchaReader):
        return None
    part, _, last = model.head[0].rpartition(".")
    del model.get_submodule(part)._modules[last]
    return model


def bn_folded(model: Any) -> cnnzoo.CNN | None:
    return cnnzoo.fold_batchnorm(model)


def trained_otherwise(model: Any) -> Any:
    """Settings that only training knows."""
    for layer in model.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.123
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 0.01
        if isinstance(layer, nn.ReLU):
            layer.inplace = False
    return cnnzoo.freeze(model, norms=True)


def halved(model: Any) -> cnnzoo.CNN:
    return model.double()


def tied(model: Any) -> cnnzoo.CNN:
    """Two layers that share a weight, where two have weights of one shape."""
    seen: dict[Any, nn.Parameter] = {}
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight = seen.setdefault(layer.weight.shape, layer.weight)
    return model


def both(model: Any) -> cnnzoo.CNN | None:
    folded = cnnzoo.fold_batchnorm(model)
    return folded and head_replaced(folded)


KEPT = [head_replaced, head_removed, bn_folded, both, trained_otherwise, halved, tied, lambda model: model]


@pytest.mark.parametrize("change", KEPT, ids=lambda change: change.__name__)
@pytest.mark.parametrize("small", SMALL, ids=str)
def test_a_network_that_can_be_described_loads_equal(tmp_path: Path, small: Variant, change: Callable) -> None:
    model = change(small.settled())
    if model is None:
        pytest.skip("it closes with no layer that could be replaced")
    images = small.images(model).to(next(model.parameters()))
    with torch.inference_mode():
        scores = model.eval()(images)
    assert model.num_classes in (scores.shape[-1], 0)
    cnnzoo.save_pretrained(model, tmp_path / "out")
    write_weights(model, tmp_path / "alone.safetensors")
    for place in (tmp_path / "out", tmp_path / "alone.safetensors"):
        again = cnnzoo.load_pretrained(place)
        with torch.inference_mode():
            assert torch.equal(again(images), scores)
        assert (again.config.name, plain(again.config.options)) == (model.config.name, plain(model.config.options))
        assert again.num_classes == model.num_classes
    cnnzoo.save_pretrained(again, tmp_path / "again")
    assert (tmp_path / "again/config.json").read_text() == (tmp_path / "out/config.json").read_text()


@pytest.mark.parametrize("large", [one for one in VARIANTS if one not in SMALL], ids=str)
def test_large_networks_are_described_alike(large: Variant) -> None:
    from cnnzoo.deploy.fold import fold

    model = large.build(device="meta")
    folded = copy.deepcopy(model)
    fold(folded)
    head_replaced(folded)
    with pytest.raises(cnnzoo.CheckpointError, match="meta device"):  # all else was found right
        described(folded)


def test_a_folded_network_takes_other_classes(tmp_path: Path) -> None:
    folded = cnnzoo.fold_batchnorm(Variant("cifar_resnet20", False).settled())
    cnnzoo.save_pretrained(folded, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["folded"] is True
    with pytest.warns(cnnzoo.FreshLayerWarning, match="starts afresh: fc"):
        model = cnnzoo.load_pretrained(tmp_path, num_classes=4)
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(model[:-1](images), folded[:-1](images))
        assert model(images).isfinite().all()


# What is known of weights --------------------------------------------------------------------------------------------


def claims(known: Checkpoint) -> tuple:
    return known.tag, known.classes, known.accuracy, known.data, known.recipe, known.card


NOTHING = ("", (), None, "", "", "")


def step(model: nn.Module, optimizer: str = "SGD", **options: Any) -> None:
    optimizer = getattr(torch.optim, optimizer)(model.parameters(), lr=1e-3, **options)
    model(torch.rand(2, 1, 28, 28)).sum().backward()
    optimizer.step()


def by_data(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.data -= 1e-3


def swapped(model: Any) -> None:
    model.output = nn.Linear(84, 10)


def loaded(model: Any) -> None:
    model.load_state_dict(cnnzoo.create("lenet5", seed=1).state_dict())


def assigned(model: Any) -> None:
    model.load_state_dict(cnnzoo.create("lenet5", seed=1).state_dict(), assign=True)


def copied(model: Any) -> cnnzoo.CNN:
    return copy.deepcopy(model)


CHANGED: dict[str, Callable[[Any], Any]] = {
    "sgd": step,
    "adam": lambda model: step(model, "Adam"),
    "foreach": lambda model: step(model, "Adam", foreach=True),
    "fused": lambda model: step(model, "AdamW", fused=True),
    "last layer": lambda model: (cnnzoo.freeze(model, until="f6"), step(model))[1],
    "data": by_data,
    "swapped": swapped,
    "fewer": lambda model: setattr(model, "output", nn.Linear(84, 4)),
    "reset": lambda model: model.reset_classifier(10),
    "loaded": loaded,
    "assigned": assigned,
}


@pytest.mark.parametrize("change", CHANGED)
@pytest.mark.parametrize(
    "before", [lambda model: None, lambda model: model.double().float(), lambda model: model.train()]
)
def test_weights_that_were_trained_further_inherit_no_claims(tmp_path: Path, before: Callable, change: str) -> None:
    model = cnnzoo.load_pretrained("lenet5")
    published = model.checkpoint
    before(model)
    assert model.checkpoint == published
    CHANGED[change](model)
    known = model.checkpoint
    assert claims(known) == NOTHING
    assert (known.made_from, known.license) == ("lenet5.mnist", published.license)
    assert known.preprocessing == published.preprocessing
    cnnzoo.save_pretrained(model, tmp_path)
    again = cnnzoo.load_pretrained(tmp_path).checkpoint
    assert replace(again, tag="") == replace(known, tag="")
    card = (tmp_path / "README.md").read_text()
    assert "Fine-tuned from `lenet5.mnist`." in card
    for claim in ("99", "0.994", "MNIST", published.card[:40], "NIST"):
        assert claim not in card.partition("## Weights")[2].partition("## Paper")[0].replace("lenet5.mnist", "")


@pytest.mark.parametrize(
    "change",
    [
        *(copied, lambda model: model.half().float(), lambda model: cnnzoo.freeze(model), lambda model: model.eval()),
        lambda model: model.to(memory_format=torch.channels_last),
        lambda model: (model(torch.rand(1, 1, 28, 28)), model)[1],
    ],
)
def test_weights_that_are_as_they_were_keep_what_is_known(tmp_path: Path, change: Callable) -> None:
    model = cnnzoo.load_pretrained("lenet5")
    published = model.checkpoint
    model = change(model)
    if torch.equal(model.c1.weight, cnnzoo.load_pretrained("lenet5").c1.weight):
        assert model.checkpoint == published
        cnnzoo.save_pretrained(model, tmp_path)
        again = cnnzoo.load_pretrained(tmp_path).checkpoint
        assert claims(again) == claims(published)
        assert again.made_from == "lenet5.mnist"
        assert f"Made from `lenet5.mnist`. {published.card}" in (tmp_path / "README.md").read_text()


def test_a_copy_that_is_trained_inherits_nothing_either() -> None:
    model = cnnzoo.load_pretrained("lenet5")
    average = torch.optim.swa_utils.AveragedModel(model)
    step(model)
    average.update_parameters(model)
    step(model)
    average.update_parameters(model)
    assert claims(average.module.checkpoint) == NOTHING


def test_running_statistics_count_as_well(tmp_path: Path) -> None:
    model = Variant("cifar_resnet20", False).settled()
    model.checkpoint = Checkpoint("mine", Preprocessing(size=32), class_set="cifar10", accuracy=0.9)
    model.train()(torch.rand(4, 3, 32, 32))
    assert claims(model.checkpoint) == NOTHING
    assert model.checkpoint.made_from == "mine"


@pytest.mark.parametrize("options", [{"num_classes": 3}, {"num_classes": 0}])
@pytest.mark.filterwarnings("ignore::cnnzoo.FreshLayerWarning")
def test_other_scores_inherit_no_claims(options: dict) -> None:
    model = cnnzoo.load_pretrained("lenet5", **options)
    assert claims(model.checkpoint) == NOTHING
    assert model.checkpoint.made_from == "lenet5.mnist"


def test_other_channels_keep_the_classes_alone() -> None:
    model = cnnzoo.load_pretrained("lenet5", in_channels=3)
    assert len(model.checkpoint.classes) == 10
    assert (model.checkpoint.accuracy, model.checkpoint.card) == (None, "")


def test_num_classes_and_classes_are_never_stale() -> None:
    model = cnnzoo.load_pretrained("lenet5")
    model.output = nn.Linear(84, 3)
    assert model.num_classes == 3
    assert model.checkpoint.classes == ()
    assert cnnzoo.classify(model, [samples()[7].image])[0][0].label.startswith("class ")
    nested = cnnzoo.create("tutorial_mnist_cnn")
    part, _, last = nested.head[0].rpartition(".")
    nested.get_submodule(part)[int(last)] = nn.Linear(nested.head[1], 4)
    assert nested.num_classes == 4
    model.output = nn.Sequential(nn.Dropout(), nn.Linear(84, 6))
    assert model.num_classes == 6
    del model.output
    assert model.num_classes == 0


# Weights of one's own ------------------------------------------------------------------------------------------------


def test_a_network_of_one_s_own_is_used_by_predict(tmp_path: Path) -> None:
    model = cnnzoo.create("lenet5", num_classes=2, seed=0)
    prepared = Preprocessing(channels=1, size=28, mean=0.3, std=0.3)
    cnnzoo.save_pretrained(
        model,
        tmp_path / "out",
        classes=["circle", "square"],
        preprocessing=prepared,
        accuracy=0.75,
        data="drawings",
        card="A first attempt.",
    )
    samples()[0].image.save(tmp_path / "a.png")
    (said,) = json.loads(fine("predict", tmp_path / "a.png", "--model", tmp_path / "out", "--json"))
    assert {one["label"] for one in said["classes"]} == {"circle", "square"}
    (best, _) = cnnzoo.classify(model.eval(), [samples()[0].image])[0]
    assert said["classes"][0] == {"label": best.label, "score": best.score, "share": best.share}
    known = cnnzoo.load_pretrained(tmp_path / "out").checkpoint
    assert known == replace(model.checkpoint, tag="out")
    assert known.preprocessing == prepared
    card = (tmp_path / "out/README.md").read_text()
    assert (
        "A first attempt. Trained on drawings. Accuracy: 0.7500 of its test images. 2 classes: circle, square." in card
    )
    assert "from `" not in card


def test_classes_can_be_set_on_the_network() -> None:
    model = cnnzoo.create("lenet5", num_classes=2, seed=0).eval()
    model.checkpoint = Checkpoint(
        "", Preprocessing(channels=1, size=28, mean=0.3, std=0.3), class_set=("circle", "square")
    )
    assert cnnzoo.classify(model, [samples()[0].image])[0][0].label in ("circle", "square")


@pytest.mark.parametrize(
    ("stated", "kind", "message"),
    [
        ({"classes": ["a"]}, cnnzoo.OptionError, r"^save_pretrained: got 1 names of classes for 2 scores; state as many"),
        ({"classes": ["a", "b"]}, cnnzoo.OptionError, r"nothing says how this network wants its images, .*pass preprocessing="),
        ({"accuracy": 0.5}, cnnzoo.OptionError, "nothing says how this network wants its images"),
    ],
)  # fmt: skip
def test_what_is_stated_is_checked(tmp_path: Path, stated: dict, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        cnnzoo.save_pretrained(cnnzoo.create("lenet5", num_classes=2), tmp_path / "out", **stated)
    assert not (tmp_path / "out").exists()


def test_a_file_alone_still_says_nothing_of_images(tmp_path: Path) -> None:
    write_weights(cnnzoo.load_pretrained("lenet5"), tmp_path / "a.safetensors")
    samples()[0].image.save(tmp_path / "a.png")
    result = run("predict", tmp_path / "a.png", "--model", tmp_path / "a.safetensors")
    assert result.exit_code == 2
    assert "nothing says how this network wants its images" in result.stderr
