"""The optimiser of 1998, against autograd's exact second derivatives."""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev

import cnnzoo
from cnnzoo import CNN
from cnnzoo.initialization import lecun1998
from cnnzoo.models import MAPLoss
from cnnzoo.nn import ConnectionTableConv2d, RBFOutput, ScaledTanh, Subsample
from cnnzoo.training.sdlm import SDLM, curvature

N = 5
LABELS = torch.tensor([0, 2, 1, 1, 0])


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def chain(**layers: nn.Module) -> CNN:
    return CNN(OrderedDict(layers)).double()


def squared_distance(scores: Tensor, labels: Tensor) -> Tensor:
    """The mean of the criterion of equation 8, with codes of its own."""
    codes = torch.eye(scores.shape[1], dtype=scores.dtype)
    return (scores - codes[labels]).square().sum(1).mean()


def exact(network: CNN, criterion: Callable, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The diagonal of autograd's matrix of second derivatives, for each parameter."""
    parameters = {name: parameter.detach() for name, parameter in network.named_parameters()}
    matrix = jacrev(jacrev(lambda given: criterion(functional_call(network, given, (images,)), labels)))(parameters)
    return {
        name: matrix[name][name].reshape(value.numel(), value.numel()).diagonal().reshape(value.shape)
        for name, value in parameters.items()
    }


def assert_exact(network: CNN, criterion: Callable, images: Tensor, labels: Tensor = LABELS) -> None:
    found = curvature(network, criterion, images, labels)
    named = {name: found[parameter] for name, parameter in network.named_parameters()}
    expected = exact(network, criterion, images, labels)
    assert named.keys() == expected.keys()
    for name, values in expected.items():
        torch.testing.assert_close(named[name], values, msg=lambda text, name=name: f"{name}: {text}")


CRITERIA = {"distance": squared_distance, "entropy": nn.functional.cross_entropy, "map": MAPLoss(1.0)}


@pytest.mark.parametrize("criterion", CRITERIA.values(), ids=CRITERIA)
def test_one_linear_layer_is_exact(criterion: Callable) -> None:
    network = chain(flatten=nn.Flatten(), fc=nn.Linear(12, 3))
    assert_exact(network, criterion, torch.randn(N, 3, 2, 2).double())


def test_hidden_layer_is_exact_where_it_is_linear() -> None:
    network = chain(flatten=nn.Flatten(), f6=nn.Linear(12, 4), same=nn.Identity(), fc=nn.Linear(4, 3))
    assert_exact(network, squared_distance, torch.randn(N, 3, 2, 2).double())


@pytest.mark.parametrize("squash", [ScaledTanh(), nn.Tanh(), nn.Sigmoid(), nn.ReLU()])
def test_hidden_layer_is_exact_where_nothing_is_left_to_learn(squash: nn.Module) -> None:
    """What Gauss and Newton leave out is the squashing function's own curvature times the error, which is 0 here."""
    network = chain(flatten=nn.Flatten(), f6=nn.Linear(12, 4), squash=squash, fc=nn.Linear(4, 3))
    images = torch.randn(N, 3, 2, 2).double()
    targets = network(images).detach()

    def reached(scores: Tensor, labels: Tensor) -> Tensor:
        return (scores - targets).square().sum(1).mean()

    assert_exact(network, reached, images)


@pytest.mark.parametrize("j", [0.1, 3.0])
def test_rbf_output_belongs_to_the_criterion(j: float) -> None:
    network = chain(flatten=nn.Flatten(), f6=nn.Linear(12, 6), output=RBFOutput(torch.randn(3, 6).sign()))
    images = 0.5 * torch.randn(N, 3, 2, 2).double()
    assert_exact(network, MAPLoss(j), images)
    assert_exact(network, squared_mean, images)


def squared_mean(scores: Tensor, labels: Tensor) -> Tensor:
    """Equation 8: the mean distance to the right code."""
    return -scores.gather(1, labels.unsqueeze(1)).mean()


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(2, 3, 3, stride=2, padding=1), (2, 5, 5)),
        (Subsample(2), (2, 4, 4)),
        (ConnectionTableConv2d(3, ((0, 1), (2,), (0, 1, 2)), 2), (3, 3, 3)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_shared_weight_adds_up_its_connections(layer: nn.Module, shape: tuple[int, ...]) -> None:
    """Equation 22: the second derivatives with respect to the connections, as if each had a weight of its own."""
    layer = layer.double()
    images = torch.randn(N, *shape).double()
    outputs = layer(images)[0].numel()
    network = chain(layer=layer, squash=ScaledTanh(), flatten=nn.Flatten(), fc=nn.Linear(outputs, 3))
    targets = network(images).detach()

    def reached(scores: Tensor, labels: Tensor) -> Tensor:
        return (scores - targets).square().sum(1).mean()

    # Untied: one linear layer, whose weight is the layer's matrix and stands for one connection each.
    zero = layer(torch.zeros(1, *shape).double()).detach().flatten()
    matrix = torch.stack(
        [
            (layer(one.view(1, *shape)) - zero.view_as(layer(one.view(1, *shape)))).flatten()
            for one in torch.eye(images[0].numel()).double()
        ],
        1,
    )
    untied = nn.Linear(images[0].numel(), outputs).double()
    untied.weight.data, untied.bias.data = matrix.detach(), zero
    whole = chain(flatten=nn.Flatten(), layer=untied, squash=ScaledTanh(), fc=network.fc)
    torch.testing.assert_close(whole(images), targets)
    connections = exact(whole, reached, images, LABELS)
    found = curvature(network, reached, images, LABELS)
    for name, parameter in layer.named_parameters():
        shared = sharing(layer, name, parameter, shape, matrix)
        expected = (shared @ connections[f"layer.{'bias' if name == 'bias' else 'weight'}"].flatten()).view_as(
            parameter
        )
        torch.testing.assert_close(found[parameter], expected)


def sharing(layer: nn.Module, name: str, parameter: Tensor, shape: tuple[int, ...], matrix: Tensor) -> Tensor:
    """(weights, connections): 1 where a connection has the weight."""

    def connections(value: Tensor) -> Tensor:
        given = dict(layer.named_parameters()) | {name: value}
        zero = functional_call(layer, given, (torch.zeros(1, *shape).double(),)).flatten()
        if name == "bias":
            return zero
        basis = torch.eye(matrix.shape[1]).double().view(-1, *shape)
        return (functional_call(layer, given, (basis,)).flatten(1) - zero).T.flatten()

    return torch.autograd.functional.jacobian(connections, parameter.detach()).flatten(1).T


def test_average_pooling_squares_its_coefficients() -> None:
    pooled = chain(pool=nn.AvgPool2d(2), flatten=nn.Flatten(), fc=nn.Linear(4, 3))
    before = chain(scale=nn.Conv2d(1, 1, 1), pool=nn.AvgPool2d(2), flatten=nn.Flatten(), fc=pooled.fc)
    images = torch.randn(N, 1, 4, 4).double()
    matrix = torch.zeros(4, 16).double()
    for place in range(16):
        matrix[place // 8 * 2 + place % 4 // 2, place] = 0.25
    linear = chain(flatten=nn.Flatten(), scale=nn.Linear(16, 16), pool=nn.Linear(16, 4), fc=pooled.fc)
    linear.scale.weight.data = torch.eye(16).double() * before.scale.weight.detach().flatten()
    linear.scale.bias.data = before.scale.bias.detach().expand(16)
    linear.pool.weight.data, linear.pool.bias.data = matrix, torch.zeros(4).double()
    torch.testing.assert_close(linear(images), before(images))
    of_linear = curvature(linear, squared_distance, images, LABELS)
    found = curvature(before, squared_distance, images, LABELS)
    torch.testing.assert_close(
        found[before.scale.weight].flatten(), of_linear[linear.scale.weight].diagonal().sum()[None]
    )
    torch.testing.assert_close(found[before.scale.bias], of_linear[linear.scale.bias].sum()[None])


def test_step_goes_along_the_gradient_as_far_as_the_curvature_lets_it() -> None:
    network = chain(flatten=nn.Flatten(), fc=nn.Linear(12, 3))
    images = torch.randn(N, 3, 2, 2).double()
    optimizer = SDLM(network.parameters(), lr=0.1, mu=0.5)
    optimizer.estimate(network, squared_distance, images, LABELS)
    h = exact(network, squared_distance, images, LABELS)["fc.weight"]
    squared_distance(network(images), LABELS).backward()
    before, gradient = network.fc.weight.detach().clone(), network.fc.weight.grad.clone()
    optimizer.step()
    torch.testing.assert_close(network.fc.weight.detach(), before - 0.1 / (0.5 + h) * gradient)


def test_lenet5_learns_image_by_image() -> None:
    network = cnnzoo.create("lenet5", classic=True)
    cnnzoo.initialize(network, partial(lecun1998, exponent=0.5), generator=torch.Generator().manual_seed(0))
    criterion = MAPLoss(8.0)
    images = torch.full((10, 1, 32, 32), -0.1)
    for label in range(10):
        images[label, 0, 3 * label : 3 * label + 3] = 1.175
    labels = torch.arange(10)
    optimizer = SDLM(network.parameters(), lr=5e-4, mu=0.02)
    first = criterion(network(images), labels).item()
    for _ in range(6):
        optimizer.estimate(network, criterion, images, labels)
        for image, label in zip(images.split(1), labels.split(1), strict=True):
            optimizer.zero_grad()
            criterion(network(image), label).backward()
            optimizer.step()
    assert criterion(network(images), labels).item() < 0.5 * first
    assert all(state["curvature"].min() >= 0 for state in optimizer.state.values())


def test_state_holds_the_curvature() -> None:
    network = chain(flatten=nn.Flatten(), fc=nn.Linear(12, 3))
    one, other = (SDLM(network.parameters(), lr=0.1) for _ in range(2))
    one.estimate(network, squared_distance, torch.randn(N, 3, 2, 2).double(), LABELS)
    other.load_state_dict(one.state_dict())
    assert torch.equal(other.state[network.fc.weight]["curvature"], one.state[network.fc.weight]["curvature"])


@pytest.mark.parametrize("values", [{"lr": -1.0}, {"mu": 0.0}, {"samples": 0}])
def test_values_that_cannot_be(values: dict) -> None:
    with pytest.raises(cnnzoo.OptionError, match=r"SDLM: got lr=.*; mu and samples are positive, lr at least 0"):
        SDLM([nn.Parameter(torch.zeros(1))], **values)


def test_step_before_the_estimate() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.ones(1)
    with pytest.raises(cnnzoo.OptionError, match=r"a step came before the curvature is known; call estimate\(\) first"):
        SDLM([parameter]).step()


def test_layer_that_stops_second_derivatives() -> None:
    network = cnnzoo.create("cifar_resnet20", seed=0)
    with pytest.raises(
        cnnzoo.OptionError, match=r"no second derivatives are known through layer avgpool \(AdaptiveAvgPool2d\)"
    ):
        curvature(network, nn.functional.cross_entropy, torch.randn(2, 3, 32, 32), torch.tensor([0, 1]))
