"""What a network sees, against the same found another way: finite differences, hooks, definitions, captum."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn
from torch.nn import functional as F

import cnnzoo
from cnnzoo.cli import main
from cnnzoo.data.image_files import samples
from cnnzoo.interpretation import (
    Patch,
    class_activation_map,
    filters,
    grad_cam,
    maps,
    occlusion,
    patch,
    plot_filters,
    plot_heat,
    plot_maps,
    plot_patches,
    saliency,
)


def network(name: str, **options) -> Any:
    """In double precision, in which finite differences mean something."""
    return cnnzoo.create(cnnzoo.spec(name).name, dtype=torch.float64, seed=0, **options).eval()


def images(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def score(model: nn.Module, given: Tensor, target: int) -> float:
    with torch.no_grad():
        return model(given)[0, target].item()


# Grad-CAM


@pytest.mark.parametrize("layer", ["tanh1", "c3", "s4"])
def test_grad_cam_is_what_finite_differences_give(layer: str) -> None:
    model, given, target, step = network("lenet5"), images(1, 1, 28, 28), 3, 1e-5
    names = list(dict(model.named_children()))
    cut = names.index(layer) + 1
    with torch.no_grad():
        below = model[:cut](given)
        gradients = torch.empty(below.shape[1], dtype=torch.float64)
        for channel in range(below.shape[1]):
            moved = torch.zeros_like(below)
            moved[:, channel] = step
            change = model[cut:](below + moved)[0, target] - model[cut:](below - moved)[0, target]
            gradients[channel] = change / (2 * step) / below[0, 0].numel()
        expected = torch.einsum("k,khw->hw", gradients, below[0]).relu()
    torch.testing.assert_close(grad_cam(model, given, target, layer=layer)[0], expected, rtol=1e-6, atol=1e-9)


def test_grad_cam_takes_the_last_maps_before_pooling() -> None:
    assert grad_cam(network("lenet5"), images(2, 1, 28, 28)).shape == (2, 10, 10)
    assert grad_cam(network("vgg11", num_classes=5), images(1, 3, 32, 32)).shape == (1, 2, 2)
    assert grad_cam(network("resnet18", num_classes=5), images(1, 3, 64, 64)).shape == (1, 2, 2)


@pytest.mark.parametrize("name", ["resnet18", "preresnet18", "cifar_resnet20", "googlenet"])
def test_where_both_exist_the_two_maps_agree(name: str) -> None:
    """With global average pooling, the gradient of the score is the weight of the class over the number of places."""
    model, given = network(name, num_classes=7), images(2, 3, 64, 64)
    exact = class_activation_map(model, given, 4)
    places = exact[0].numel()
    torch.testing.assert_close(grad_cam(model, given, 4), exact.relu() / places, rtol=1e-6, atol=1e-12)


# Class activation maps


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "preresnet18", "cifar_resnet20", "googlenet", "inception_v3"])
def test_the_mean_of_a_class_activation_map_and_the_bias_are_the_score(name: str) -> None:
    model = network(name, num_classes=7)
    size = 139 if name == "inception_v3" else 64
    given = images(2, 3, size, size)
    with torch.no_grad():
        scores = model(given)
    bias = model.fc.bias.detach()
    for target in (0, 6):
        found = class_activation_map(model, given, target).mean((1, 2)) + bias[target]
        torch.testing.assert_close(found, scores[:, target], rtol=1e-9, atol=1e-9)
    highest = class_activation_map(model, given)
    expected = class_activation_map(model, given, scores.argmax(1))
    torch.testing.assert_close(highest, expected, rtol=0, atol=0)


def test_the_maps_of_torchvisions_networks_are_exact_too() -> None:
    torchvision = pytest.importorskip("torchvision")
    model = torchvision.models.mobilenet_v2(num_classes=4).double().eval()
    given = images(1, 3, 96, 96)
    found = class_activation_map(model, given, 2).mean() + model.classifier[1].bias[2]
    assert found.item() == pytest.approx(score(model, given, 2))


@pytest.mark.parametrize("name", ["lenet5", "alexnet", "vgg11"])
def test_networks_that_end_otherwise_have_no_exact_map(name: str) -> None:
    model = network(name)
    with pytest.raises(cnnzoo.OptionError, match=r"does not end in global average pooling.*grad_cam works on any"):
        class_activation_map(model, images(1, *model.input_shape))


def test_a_network_that_does_more_after_its_linear_layer_has_no_exact_map() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5), nn.Softmax(1)
    ).double()
    with pytest.raises(cnnzoo.OptionError, match=r"class_activation_map: Sequential does not end in global average"):
        class_activation_map(model, images(1, 3, 8, 8))


# Saliency


@pytest.mark.parametrize("name", ["lenet5", "cifar_resnet20"])
def test_saliency_is_what_finite_differences_give(name: str) -> None:
    model, step = network(name), 1e-6
    given = images(1, *model.input_shape)
    found = saliency(model, given, 5)
    assert found.shape == given.shape
    for place in ((0, 0, 3, 7), (0, 0, 14, 14), (0, given.shape[1] - 1, 20, 9)):
        moved = torch.zeros_like(given)
        moved[place] = step
        slope = (score(model, given + moved, 5) - score(model, given - moved, 5)) / (2 * step)
        assert found[place].item() == pytest.approx(slope, rel=1e-4, abs=1e-8)


def guided_by_hooks(model: nn.Module, given: Tensor, target: int) -> Tensor:
    """Guided backpropagation as most implement it, which needs ReLUs that are modules and do not work in place."""
    handles = []
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
            handles.append(module.register_full_backward_hook(lambda m, before, after: (before[0].clamp_min(0),)))
    given = given.clone().requires_grad_()
    (found,) = torch.autograd.grad(model(given)[0, target], given)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize(("name", "size"), [("alexnet", 64), ("vgg11", 32), ("resnet18", 64), ("preresnet18", 64)])
def test_guided_saliency_is_what_hooks_give(name: str, size: int) -> None:
    model, given = network(name, num_classes=5), images(1, 3, size, size)
    found = saliency(model, given, 2, guided=True)  # first, while the ReLUs work in place
    torch.testing.assert_close(found, guided_by_hooks(model, given, 2), rtol=1e-9, atol=1e-12)
    assert not torch.allclose(found, saliency(model, given, 2))


def test_guided_saliency_finds_relus_that_are_functions() -> None:
    class Functions(nn.Module):
        def __init__(self, in_place: bool) -> None:
            super().__init__()
            self.conv, self.fc, self.in_place = nn.Conv2d(1, 4, 3), nn.Linear(4 * 36, 3), in_place

        def forward(self, x):
            x = self.conv(x)
            if self.in_place:
                F.relu(x, inplace=True)  # what follows reads x
            else:
                x = torch.relu(x)
            return self.fc(x.flatten(1))

    torch.manual_seed(0)
    one = Functions(in_place=False).double()
    other = Functions(in_place=True).double()
    other.load_state_dict(one.state_dict())
    given = images(1, 1, 8, 8)
    with torch.no_grad():
        positive = one.conv(given) > 0
    back = one.fc.weight[1].view(1, 4, 6, 6).clamp_min(0) * positive
    expected = F.conv_transpose2d(back, one.conv.weight)
    for model in (one, other):
        torch.testing.assert_close(saliency(model, given, 1, guided=True), expected)


# Occlusion


def test_occlusion_is_the_fall_of_the_score() -> None:
    model, given = network("lenet5"), images(2, 1, 28, 28)
    found = occlusion(model, given, [3, 8], window=7, stride=7)
    for n, target in enumerate((3, 8)):
        whole = score(model, given[n : n + 1], target)
        for top, left in ((0, 0), (7, 14), (21, 21)):
            hidden = given[n : n + 1].clone()
            hidden[..., top : top + 7, left : left + 7] = 0
            block = found[n, top : top + 7, left : left + 7]
            assert torch.all(block == block[0, 0])
            assert block[0, 0].item() == pytest.approx(whole - score(model, hidden, target))


def test_occlusion_averages_over_windows_that_overlap() -> None:
    model, given = network("lenet5"), images(1, 1, 28, 28)
    falls = torch.zeros(28, 28, dtype=torch.float64)
    times = torch.zeros(28, 28)
    for top in range(0, 28, 4):
        for left in range(0, 28, 5):
            hidden = given.clone()
            hidden[..., top : top + 6, left : left + 9] = 0.5
            falls[top : top + 6, left : left + 9] += score(model, given, 1) - score(model, hidden, 1)
            times[top : top + 6, left : left + 9] += 1
            if left + 9 >= 28:
                break
        if top + 6 >= 28:
            break
    found = occlusion(model, given, 1, window=(6, 9), stride=(4, 5), fill=0.5, batch_size=5)
    torch.testing.assert_close(found[0], falls / times)
    assert times.min() > 0, "every pixel is hidden by a window"


# captum, where it is installed


@pytest.fixture
def captum():
    return pytest.importorskip("captum.attr", reason="captum is not installed")


def test_captum_finds_the_same(captum) -> None:
    model, given = network("resnet18", num_classes=5), images(2, 3, 64, 64)
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    cam = captum.LayerGradCam(model, model.conv5_x).attribute(given, 2, relu_attributions=True)[:, 0]
    torch.testing.assert_close(grad_cam(model, given, 2, layer="conv5_x"), cam.detach())
    torch.testing.assert_close(saliency(model, given, 2), captum.Saliency(model).attribute(given, 2, abs=False))
    hidden = captum.Occlusion(model).attribute(given, (3, 16, 16), strides=(3, 8, 8), target=2)
    torch.testing.assert_close(occlusion(model, given, 2, window=16, stride=8), hidden[:, 0], check_dtype=False)


# What units see


@pytest.mark.parametrize(
    ("name", "layer", "unit"),
    [
        ("lenet5", "c1", (0, 0)),
        ("lenet5", "s2", (13, 2)),
        ("lenet5", "c3", (9, 9)),
        ("alexnet", "conv2", (3, 0)),
        ("resnet18", "conv3_x", (2, 5)),
        ("googlenet", "inception_3a", None),
    ],
)
def test_a_patch_is_where_the_gradient_of_the_unit_is_not_zero(name: str, layer: str, unit) -> None:
    model = network(name)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_().add_(0.01)  # nothing cancels, no ReLU is off
    channels = model.input_shape[0]
    size = 28 if name == "lenet5" else 96
    given = images(1, channels, size, size).abs().requires_grad_()
    out = cnnzoo.extract(model, layer)(given)[layer]
    seen = patch(model, layer, unit, input_shape=(channels, size, size))
    row, column = unit or (out.shape[2] // 2, out.shape[3] // 2)
    (gradient,) = torch.autograd.grad(out[0, :, row, column].sum(), given)
    rows, columns = gradient[0].abs().sum(0).nonzero().unbind(1)
    assert max(seen.top, 0) <= rows.min()
    assert max(seen.left, 0) <= columns.min()
    assert rows.max() < min(seen.bottom, size)
    assert columns.max() < min(seen.right, size)
    if "ool" not in type(dict(model.named_modules())[layer]).__name__ and name != "googlenet":
        pools = any("MaxPool" in type(module).__name__ for module in model.modules())
        if not pools:
            assert (rows.min(), columns.min()) == (max(seen.top, 0), max(seen.left, 0))


def test_patches_of_the_paper() -> None:
    model = cnnzoo.create("lenet5", classic=True)
    assert patch(model, "c1", (0, 0)) == Patch(0, 0, 5, 5)
    assert patch(model, "s2", (1, 1)) == Patch(2, 2, 8, 8)
    assert patch(model, "c5") == Patch(0, 0, 32, 32)
    image = torch.arange(16.0).view(1, 4, 4)
    assert Patch(-1, 1, 2, 3).crop(image).tolist() == [[[0, 0], [1, 2], [5, 6]]]
    assert Patch(3, 3, 6, 5).crop(image).tolist() == [[[15, 0], [0, 0], [0, 0]]]


def test_filters_are_the_weights() -> None:
    model = cnnzoo.create("alexnet", seed=0)
    found = filters(model)
    torch.testing.assert_close(found, model.conv1.weight.detach())
    found.zero_()
    assert model.conv1.weight.abs().sum() > 0, "a copy"
    classic = cnnzoo.create("lenet5", classic=True, seed=0)
    table = filters(classic, "c3")
    assert table.shape == (16, 6, 5, 5)
    assert int((table.abs().sum((2, 3)) > 0).sum()) == 60


def test_maps_are_the_outputs_of_layers() -> None:
    model, given = network("cifar_resnet20"), images(2, 3, 32, 32)
    model.train()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    found = maps(model, given, "conv1", "stage2")
    assert model.training
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    with torch.no_grad():
        torch.testing.assert_close(found["conv1"], model.conv1(given))
    assert list(found) == ["conv1", "stage2"]


def test_the_network_is_left_as_it_was() -> None:
    model = cnnzoo.create("cifar_resnet20", seed=0).train()
    model.conv1.eval()
    given = torch.rand(1, 3, 32, 32)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        grad_cam(model, given)
        saliency(model, given, guided=True)
        class_activation_map(model, given)
        occlusion(model, given, window=16)
    assert model.training
    assert not model.conv1.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert not given.requires_grad
    cnnzoo.freeze(model)
    assert saliency(model, given).abs().sum() > 0, "frozen networks have gradients of images"


# Errors


def test_bad_input() -> None:
    model, given = cnnzoo.create("lenet5", seed=0), torch.rand(2, 1, 28, 28)
    with pytest.raises(cnnzoo.UnknownNameError, match=r"grad_cam: unknown layer 'conv3': .*"):
        grad_cam(model, given, layer="conv3")
    with pytest.raises(cnnzoo.OptionError, match=r"grad_cam: layer f6 gives \(2, 84\); expected maps \(N, C, H, W\)"):
        grad_cam(model, given, layer="f6")
    with pytest.raises(cnnzoo.OptionError, match=r"saliency: got target \[10, 10\]; classes are .* from 0 to 9"):
        saliency(model, given, 10)
    with pytest.raises(cnnzoo.OptionError, match=r"saliency: got \(3,\) targets for 2 images"):
        saliency(model, given, [1, 2, 3])
    with pytest.raises(cnnzoo.OptionError, match=r"guided=True needs ReLUs, and LeNet5 has none"):
        saliency(model, given, guided=True)
    with pytest.raises(cnnzoo.OptionError, match=r"saliency: got images of torch.uint8; .*transforms\(\)"):
        saliency(model, given.byte())
    with pytest.raises(cnnzoo.ShapeError, match=r"saliency: got images of shape \(1, 28, 28\); .*`x.unsqueeze\(0\)`"):
        saliency(model, given[0])
    with pytest.raises(
        cnnzoo.ShapeError, match=r"saliency: input 1x8x8: layer .*The smallest input|This network takes"
    ):
        saliency(model, torch.rand(1, 1, 8, 8))
    with pytest.raises(cnnzoo.OptionError, match=r"occlusion: got window=40; it is a number of pixels.*to 28x28"):
        occlusion(model, given, window=40)
    with pytest.raises(cnnzoo.OptionError, match=r"saliency: Sequential gives \(2, 3, 26, 26\); expected scores"):
        saliency(nn.Sequential(nn.Conv2d(1, 3, 3)), given)
    with pytest.raises(cnnzoo.OptionError, match=r"filters: layer s2 is a AvgPool2d; only convolutions have filters"):
        filters(model, "s2")
    with pytest.raises(cnnzoo.OptionError, match=r"filters: Linear has no convolution"):
        filters(nn.Linear(2, 2))
    with pytest.raises(cnnzoo.OptionError, match=r"patch: layer c1 has 28x28 units; got unit \(28, 0\)"):
        patch(model, "c1", (28, 0))
    with pytest.raises(cnnzoo.UnknownNameError, match=r"patch: unknown layer 'c9'"):
        patch(model, "c9")


# Plots

matplotlib = pytest.importorskip("matplotlib", reason="plots are optional")
PNG = b"\x89PNG"


def test_plots_are_drawn(tmp_path: Path) -> None:
    model, given = cnnzoo.create("resnet18", num_classes=5, seed=0), torch.rand(2, 3, 64, 64)
    plots = {
        "filters": plot_filters(model),
        "inner": plot_filters(model, "conv2_x.0.conv1"),
        "maps": plot_maps(model, given, "conv1", "conv2_x"),
        "patches": plot_patches(model, given[0], "conv1", "conv3_x"),
        "all": plot_patches(model, given[:1]),
        "cam": plot_heat(given, grad_cam(model, given), ["a", "b"]),
        "exact": plot_heat(given, class_activation_map(model, given)),
        "gradient": plot_heat(given, saliency(model, given)),
    }
    for name, plot in plots.items():
        assert plot._repr_png_().startswith(PNG)
        assert plot.save(tmp_path / f"{name}.png").read_bytes().startswith(PNG)
    assert len(plots["filters"].figure.axes) == 64
    assert [axes.get_title() for axes in plots["patches"].figure.axes][:3] == [
        "image",
        "conv1\n7×7",
        f"conv3_x\n{'×'.join(map(str, cnnzoo.receptive_field(model, 'conv3_x').size))}",
    ]


def test_plots_without_matplotlib_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    model, given = cnnzoo.create("lenet5", seed=0), torch.rand(1, 1, 28, 28)
    calls = {
        "plot_filters": lambda: plot_filters(model),
        "plot_maps": lambda: plot_maps(model, given, "c1"),
        "plot_patches": lambda: plot_patches(model, given),
        "plot_heat": lambda: plot_heat(given, given[:, 0]),
    }
    for name, call in calls.items():
        with pytest.raises(cnnzoo.OptionError, match=rf'{name}: plots need matplotlib.*pip install "cnnzoo\[plot\]"'):
            call()


def test_bad_plots(tmp_path: Path) -> None:
    model, given = cnnzoo.create("lenet5", seed=0), torch.rand(1, 1, 28, 28)
    with pytest.raises(cnnzoo.OptionError, match=r"save: .*a\.gif: plots are written as \.png, \.svg, \.pdf"):
        plot_filters(model).save(tmp_path / "a.gif")
    with pytest.raises(cnnzoo.OptionError, match=r"save: cannot write .*nowhere.*choose a folder that exists"):
        plot_filters(model).save(tmp_path / "nowhere" / "a.png")
    with pytest.raises(cnnzoo.OptionError, match=r"plot_maps: layer f6 gives \(1, 84\); only maps"):
        plot_maps(model, given, "f6")
    with pytest.raises(cnnzoo.ShapeError, match=r"plot_heat: got images .* and heat .*; expected"):
        plot_heat(given, torch.rand(2, 4, 4))
    assert not list(tmp_path.iterdir())


# The command line


@pytest.fixture
def boot(tmp_path: Path) -> Path:
    samples()[9].image.save(tmp_path / "boot.png")
    return tmp_path / "boot.png"


@pytest.mark.parametrize(
    "arguments",
    [
        ("filters",),
        ("filters", "--layer", "c3"),
        ("maps", "IMAGE", "--layer", "c1", "--layer", "s2"),
        ("patches", "IMAGE"),
        ("grad-cam", "IMAGE"),
        ("grad-cam", "IMAGE", "--checkpoint", "fashion_mnist", "--target", "Sneaker", "--layer", "s4"),
        ("saliency", "IMAGE", "--target", "3"),
        ("occlusion", "IMAGE"),
    ],
    ids=" ".join,
)
def test_see_on_the_command_line(arguments: tuple[str, ...], boot: Path, tmp_path: Path) -> None:
    out = tmp_path / "seen.png"
    given = [str(boot) if one == "IMAGE" else one for one in arguments]
    result = CliRunner().invoke(main, ["see", *given, "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert out.read_bytes().startswith(PNG)
    assert str(out) in result.output.replace("\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("grad-cam",), "see grad-cam: name an image file"),
        (("guided", "IMAGE"), "guided=True needs ReLUs"),
        (("cam", "IMAGE"), "LeNet5 does not end in global average pooling"),
        (("maps", "IMAGE"), "see maps: name layers by --layer"),
        (("saliency", "IMAGE", "--target", "Boots"), "unknown class 'Boots'"),
        (("saliency", "nowhere.png"), "there is no file nowhere.png"),
        (("filters", "--layer", "c9"), "unknown layer 'c9'"),
    ],
)
def test_see_answers_mistakes_in_one_line(arguments: tuple[str, ...], message: str, boot: Path, tmp_path: Path) -> None:
    given = [str(boot) if one == "IMAGE" else one for one in arguments]
    result = CliRunner().invoke(main, ["see", *given, "--out", str(tmp_path / "seen.png")])
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "seen.png").exists()
