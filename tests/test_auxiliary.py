"""Auxiliary classifiers: beside the chain, and equal to torchvision's."""

import copy
import pickle

import pytest
import torch
import torchvision
from test_layouts import no_dropout, randomise
from torch import nn

import cnnzoo
from cnnzoo.checkpoints.layouts import from_layout, to_layout

NETWORKS = ("googlenet", "inception_v3")
SIZES = {"googlenet": 96, "inception_v3": 299}


def build(name: str, **options) -> cnnzoo.AuxiliaryCNN:
    model = cnnzoo.create(cnnzoo.spec(name).name, aux=True, seed=0, **options)
    assert isinstance(model, cnnzoo.AuxiliaryCNN)
    return model


def images(name: str, n: int = 2) -> torch.Tensor:
    return torch.randn(n, 3, SIZES[name], SIZES[name], generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_equal_torchvisions(name: str) -> None:
    torch.manual_seed(0)
    constructor = getattr(torchvision.models, name)
    theirs = no_dropout(constructor(weights=None, aux_logits=True, transform_input=False, init_weights=False))
    randomise(theirs)
    ours = no_dropout(cnnzoo.create(cnnzoo.spec(name).name, aux=True, init=False))
    ours.load_state_dict(from_layout(ours, theirs.state_dict(), "torchvision"))
    assert to_layout(ours, "torchvision").keys() == theirs.state_dict().keys()
    expected = theirs.train()(images(name))
    scores = ours.train().forward_with_aux(images(name))
    # torchvision's tuple ends with the earliest classifier, ours with the latest.
    for a, b in zip(scores, (expected[0], *reversed(expected[1:])), strict=True):
        assert (a - b).norm() < 1e-5 * b.norm()


@pytest.mark.parametrize("name", NETWORKS)
def test_forward_knows_nothing_of_them(name: str) -> None:
    model, plain = build(name).eval(), cnnzoo.create(cnnzoo.spec(name).name, init=False).eval()
    plain.load_state_dict({key: value for key, value in model.state_dict().items() if not key.startswith("aux.")})
    assert torch.equal(model(images(name)), plain(images(name)))
    assert list(model.chain()) == list(plain.chain())
    assert len(model) == len(list(model)) == len(plain)
    assert isinstance(model[-1], nn.Linear)
    assert not any("aux" in layer for layer, _ in model[:].named_parameters())
    shapes = [layer.name for layer in cnnzoo.infer_shapes(model, model.input_shape) if layer.ran]
    assert shapes == [layer.name for layer in cnnzoo.infer_shapes(plain, plain.input_shape)]


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_reach_every_parameter(name: str) -> None:
    model = build(name, num_classes=3).train()
    scores = model.forward_with_aux(images(name, 4))
    assert [tuple(one.shape) for one in scores] == [(4, 3)] * (1 + len(model.aux))
    target = torch.tensor([0, 1, 2, 0])
    main, *auxiliary = (nn.functional.cross_entropy(one, target) for one in scores)
    (main + 0.3 * sum(auxiliary)).backward()
    assert [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("name", NETWORKS)
def test_copies_and_full_graph(name: str) -> None:
    model = build(name, num_classes=3).eval()
    expected = model.forward_with_aux(images(name))
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert all(map(torch.equal, twin.forward_with_aux(images(name)), expected))
    compiled = torch.compile(model.forward_with_aux, fullgraph=True, backend="eager")
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(compiled(images(name)), expected, strict=True))
    torch.compiler.reset()


@pytest.mark.parametrize("name", NETWORKS)
def test_reset_classifier(name: str) -> None:
    model = build(name).eval()
    model.reset_classifier(4)
    assert {one.shape[1] for one in model.forward_with_aux(images(name))} == {4}
    assert model.config is not None
    assert (model.config.options["num_classes"], model.config.options["aux"]) == (4, True)
    model.reset_classifier(0)
    assert model(images(name)).shape == (2, model.head[1])
    assert not any(key.startswith("aux.") for key in model.state_dict())
    assert (model.config.options["num_classes"], model.config.options["aux"]) == (0, False)


def test_classic_heads_see_the_paper_s_maps() -> None:
    model = cnnzoo.create("googlenet", classic=True, aux=True, device="meta")
    assert sum(p.numel() for p in model.parameters()) == 13_378_280
    assert model.aux["inception_4a"].input_shape == (512, 14, 14)
    assert model.aux["inception_4d"].input_shape == (528, 14, 14)
    pooled = next(row for row in cnnzoo.infer_shapes(model.aux["inception_4a"], (512, 14, 14)) if row.name == "pool")
    assert pooled.output_shape == (512, 4, 4)


def test_errors() -> None:
    with pytest.raises(cnnzoo.OptionError, match=r"forward_with_aux: this GoogLeNet has no .*; build it with aux=True"):
        cnnzoo.create("googlenet", device="meta").forward_with_aux(torch.zeros(1, 3, 224, 224))
    with pytest.raises(
        cnnzoo.OptionError, match=r"InceptionV3: aux=True needs classes .* got num_classes=0; leave out"
    ):
        cnnzoo.create("inception_v3", aux=True, num_classes=0)
    model = cnnzoo.create("googlenet", classic=True, aux=True, num_classes=2, seed=0)
    message = r"GoogLeNet: input 3x128x128: .* behind inception_4a gets maps of 512x8x8, which it cannot take; the network is made for 3x224x224, and the smallest images that it works with are 223x223$"
    with pytest.raises(cnnzoo.ShapeError, match=message):
        model.forward_with_aux(torch.zeros(1, 3, 128, 128))
    with pytest.raises(cnnzoo.ShapeError, match=r"GoogLeNet: .* takes 3 input channel\(s\), got 1"):
        model.forward_with_aux(torch.zeros(1, 1, 224, 224))
