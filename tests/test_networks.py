"""What holds for every network of the registry; a new network is tested by being there."""

import copy
import inspect
import pickle

import pytest
import torch
from conftest import Variant
from torch import nn

import cnnzoo


def shape_of_scores(model: cnnzoo.CNN, n: int = 2) -> tuple[int, ...]:
    """(N, num_classes); of a network that reads a sequence also its columns, one for every eight pixels."""
    columns = (model.input_shape[2] // 8,) if isinstance(model, cnnzoo.CaptchaCRNN) and model.input_shape else ()
    return n, *columns, model.num_classes


def test_scores_have_the_documented_shape(variant: Variant) -> None:
    model = variant.settled()
    with torch.no_grad():
        scores = model(variant.images(model, 1, nominal=True))
    assert scores.shape == shape_of_scores(model, 1)
    assert scores.isfinite().all()


def test_every_printed_figure_agrees(variant: Variant) -> None:
    result = cnnzoo.verify(variant.name, classic=variant.classic)
    assert result.rows
    assert [row for row in result.rows if not row.ok] == []


@pytest.mark.thorough
def test_gradients_reach_every_parameter(variant: Variant) -> None:
    model = variant.build(seed=0).train()
    weights = torch.randn(shape_of_scores(model), generator=torch.Generator().manual_seed(1))
    (model(variant.images(model)) * weights).sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@pytest.mark.thorough
def test_is_deterministic(variant: Variant) -> None:
    model = variant.settled()
    images = variant.images(model)
    assert torch.equal(model(images), model(images))


@pytest.mark.thorough
def test_seed_gives_the_same_weights_and_leaves_the_global_generator_alone(variant: Variant) -> None:
    before = torch.get_rng_state()
    one, two, other = (variant.build(seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.thorough
def test_constructor_initialises_like_create(variant: Variant) -> None:
    torch.manual_seed(5)
    created = variant.build()
    torch.manual_seed(5)
    constructed = getattr(cnnzoo, variant.name)(**variant.options)
    assert constructed.config == created.config
    for (name, a), (_, b) in zip(created.state_dict().items(), constructed.state_dict().items(), strict=True):
        assert torch.equal(a, b), name


def test_meta_device_allocates_nothing(variant: Variant) -> None:
    model = variant.build(device="meta")
    assert all(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])
    assert model(variant.images(model).to("meta")).shape == shape_of_scores(model)


@pytest.mark.thorough
def test_init_false_still_has_sound_buffers(variant: Variant) -> None:
    ours = dict(variant.build(init=False).named_buffers())
    fresh = dict(variant.build(seed=0).named_buffers())
    assert ours.keys() == fresh.keys()
    assert all(torch.equal(ours[name], fresh[name]) for name in ours)


@pytest.mark.thorough
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtype(variant: Variant, dtype: torch.dtype) -> None:
    model = variant.settled(dtype=dtype)
    assert {p.dtype for p in model.parameters()} == {dtype}
    images = variant.images(model)
    scores = model(images.to(dtype))
    assert scores.dtype == dtype
    reference = model.double()(images.double())
    if dtype == torch.float64:
        assert (scores - reference).norm() <= 1e-9 * reference.norm()
    else:  # 8 bits through hundreds of layers of random weights leave little more than a likeness
        near = (scores - reference).norm() <= 0.15 * reference.norm()
        assert near or torch.corrcoef(torch.stack([scores.double().flatten(), reference.flatten()]))[0, 1] > 0.5


@pytest.mark.thorough
def test_features(variant: Variant) -> None:
    model = variant.settled()
    model.reset_classifier(0)
    if "num_classes" in cnnzoo.spec(variant.name).parameters:
        built = variant.build(num_classes=0, device="meta")
        assert built.state_dict().keys() == model.state_dict().keys()
    features = model(variant.images(model))
    whole = variant.build(seed=0).eval()
    whole.load_state_dict(model.state_dict(), strict=False)
    last, width = list(whole)[-1], features.shape[-1]
    assert features.shape[:-1] == shape_of_scores(whole)[:-1]
    inside = [m for m in last.modules() if isinstance(m, (nn.Linear, cnnzoo.nn.RBFOutput))][-1]
    assert torch.allclose(inside(features), whole(variant.images(whole)), atol=1e-5)
    assert width == (inside.in_features if isinstance(inside, nn.Linear) else inside.codes.shape[1])


@pytest.mark.thorough
def test_reset_classifier(variant: Variant) -> None:
    model = variant.build(seed=0, dtype=torch.float64)
    before = copy.deepcopy(model.state_dict())
    if variant.classic and variant.name == "lenet5":
        with pytest.raises(cnnzoo.OptionError, match=r"3 classes with classic=True need codes="):
            model.reset_classifier(3)
        codes = torch.ones(3, 84)
        model.reset_classifier(3, codes=codes)
    elif isinstance(model, cnnzoo.CaptchaCNN):
        with pytest.raises(
            cnnzoo.OptionError, match=r"reset_classifier: got 3; .* use reset_charset\(charset, length\)"
        ):
            model.reset_classifier(3)
        model.reset_charset("abc", 1)
    elif isinstance(model, cnnzoo.CaptchaCRNN):
        with pytest.raises(cnnzoo.OptionError, match=r"reset_classifier: got 3; .* use reset_charset\(charset\)"):
            model.reset_classifier(3)
        model.reset_charset("ab")
    else:
        model.reset_classifier(3)
    assert model.eval()(variant.images(model).double()).shape == shape_of_scores(model)
    assert model.num_classes == 3
    kept = {name for name, tensor in model.state_dict().items() if tensor.shape == before[name].shape}
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in kept)
    assert len(before) - len(kept) <= 2
    model.reset_classifier(0)
    assert model(variant.images(model).double()).shape[:-1] == shape_of_scores(model)[:-1]
    assert model.num_classes == 0


@pytest.mark.thorough
def test_in_channels(variant: Variant) -> None:
    model = variant.settled(in_channels=2)
    assert model.input_shape[0] == 2
    assert model(variant.images(model)).shape == shape_of_scores(model)


@pytest.mark.thorough
def test_state_dict_round_trip(variant: Variant) -> None:
    one, two = variant.settled(), variant.build(seed=1).eval()
    two.load_state_dict(one.state_dict())
    images = variant.images(one)
    assert torch.equal(one(images), two(images))


@pytest.mark.thorough
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies(variant: Variant, duplicate) -> None:
    model = variant.settled()
    images = variant.images(model)
    twin = duplicate(model)
    assert torch.equal(twin(images), model(images))
    assert twin.config == model.config


@pytest.mark.thorough
def test_channels_last(variant: Variant) -> None:
    model = variant.settled()
    images = variant.images(model)
    expected = model(images)
    scores = model.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    # Other kernels round differently, and hundreds of layers amplify that; maps read in a wrong order are far off.
    assert (scores - expected).norm() <= 5e-3 * expected.norm()


@pytest.mark.thorough
def test_exports_with_a_dynamic_batch(variant: Variant) -> None:
    model = variant.settled()
    images = variant.images(model, 2)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, (images,), dynamic_shapes=({0: batch},))
    more = variant.images(model, 3)
    assert torch.allclose(program.module()(more), model(more), atol=1e-5)


@pytest.mark.thorough
def test_compiles_as_one_graph(variant: Variant) -> None:
    model = variant.settled()
    images = variant.images(model)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert torch.allclose(compiled(images), model(images), atol=1e-5)
    torch.compiler.reset()


def test_summary_counts_every_parameter(variant: Variant) -> None:
    model = variant.build(device="meta")
    table = cnnzoo.summary(model)
    assert sum(layer.params for layer in table.layers) == table.params == sum(p.numel() for p in model.parameters())


@pytest.mark.cuda
def test_on_cuda(variant: Variant) -> None:
    model = variant.settled().cuda()
    assert {tensor.device.type for tensor in [*model.parameters(), *model.buffers()]} == {"cuda"}
    images = variant.images(model)
    expected = copy.deepcopy(model).cpu().double()(images.double())
    with torch.backends.cudnn.flags(allow_tf32=False):
        scores = model(images.cuda())
    assert torch.allclose(scores.cpu().double(), expected, rtol=1e-3, atol=1e-3)


def test_public_constructor_is_documented(variant: Variant) -> None:
    build = cnnzoo.spec(variant.name).build
    assert getattr(cnnzoo, variant.name) is build
    text = inspect.getdoc(build) or ""
    assert len(text.partition("\n")[0]) > 20
    assert all(p.kind is p.KEYWORD_ONLY for p in inspect.signature(build).parameters.values())
