"""The published initialization schemes, one function each."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from cnnzoo.errors import OptionError, operation
from cnnzoo.initialization.draws import Draws, Fan
from cnnzoo.initialization.fans import bias_of, fans, own, unit_fan_in, units_of, weight_of

Layers = Sequence[nn.Module]
Scheme = Callable[[Layers, Generator | None], None]


@operation
@torch.no_grad()
def torch_default(layers: Layers, generator: Generator | None = None) -> None:
    """Draw weights and biases as torch's own layers do: uniform within 1 / sqrt(fan-in).

    Source: documentation of `torch.nn.Conv2d` and `torch.nn.Linear`, under "Variables".

    Examples:
        >>> import cnnzoo
        >>> import torch
        >>> layer = torch.nn.Linear(25, 10)
        >>> cnnzoo.initialization.torch_default([layer], torch.Generator().manual_seed(0))
        >>> layer.weight.abs().max().item() <= 1 / 25**0.5
        True
    """
    with Draws(generator) as draws:
        for layer in layers:
            if own(layer, "fans"):
                weights, biases = fans(layer)[0], unit_fan_in(layer)
            else:  # for a transposed convolution torch takes the wrong axis of the weight; so does this
                weights = biases = weight_of(layer)[0].numel()
            draws.uniform(weight_of(layer), weights**-0.5)
            draws.uniform(bias_of(layer), biases**-0.5)


@operation
@torch.no_grad()
def lecun1998(layers: Layers, generator: Generator | None = None, *, bound: float = 2.4, exponent: float = 1.0) -> None:
    """Draw weights and biases uniformly within 2.4 / F, F the fan-in of the unit that the connection feeds.

    The bias is a connection like any other, and does not count in F. Weight variance: (2.4 / F)^2 / 3.

    The paper divides by F because it takes the inputs of a unit to be correlated. For independent ones it would be the
    square root, `exponent=0.5`, with which the units of deep layers do not start so near to 0. Within 1 / sqrt(F)
    (`bound=1.0`) the squashing functions start unsaturated; within 2.4 / sqrt(F) those of LeNet-5 do not.

    Source: LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition" (1998),
    Appendix A.

    Examples:
        >>> import cnnzoo
        >>> import torch
        >>> layer = torch.nn.Linear(24, 10)
        >>> cnnzoo.initialization.lecun1998([layer], torch.Generator().manual_seed(0))
        >>> layer.weight.abs().max().item() <= 2.4 / 24
        True
    """
    with Draws(generator) as draws:
        for layer in layers:
            draws.uniform(weight_of(layer), bound / fans(layer)[0] ** exponent)
            draws.uniform(bias_of(layer), bound / unit_fan_in(layer) ** exponent)


@operation
@torch.no_grad()
def krizhevsky2012(layers: Layers, generator: Generator | None = None) -> None:
    """Draw normal weights of standard deviation 0.01; biases 1 where the paper wants early gradients, 0 elsewhere.

    Biases are 1 in the second, fourth and fifth convolution and in every linear layer but the last.

    Source: Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks" (2012),
    section 5.

    Examples:
        >>> import cnnzoo
        >>> model = cnnzoo.initialize(cnnzoo.create("alexnet", classic=True, init=False), "krizhevsky2012")
        >>> model.conv2.bias.unique().item()
        1.0
    """
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    convolutions = [layer for layer in layers if not isinstance(layer, nn.Linear)]
    ones = {*convolutions[1:2], *convolutions[3:5], *linear[:-1]}
    normal(layers, generator, std=0.01)
    for layer in layers:
        _constant(bias_of(layer), 1.0 if layer in ones else 0.0)


@operation
@torch.no_grad()
def simonyan2014(layers: Layers, generator: Generator | None = None, *, std: float = 0.01) -> None:
    """Draw normal weights of mean 0, biases 0.

    The paper prints "10^-2 variance"; ports of its networks use a standard deviation of 0.01, as AlexNet does, and so
    does this by default. For the printed sentence, taken literally, pass `std=0.1`.

    Source: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition" (2014),
    section 3.1.

    Examples:
        >>> import cnnzoo
        >>> import torch
        >>> layer = torch.nn.Conv2d(64, 64, 3)
        >>> cnnzoo.initialization.simonyan2014([layer], torch.Generator().manual_seed(0))
        >>> round(layer.weight.std().item(), 3), layer.bias.abs().max().item()
        (0.01, 0.0)
    """
    normal(layers, generator, std=std)


@operation
@torch.no_grad()
def normal(layers: Layers, generator: Generator | None = None, *, std: float = 0.01) -> None:
    """Draw normal weights of one standard deviation for every layer, biases 0: the teaching baseline.

    Examples:
        >>> import cnnzoo
        >>> import torch
        >>> layer = torch.nn.Linear(100, 100)
        >>> cnnzoo.initialization.normal([layer], torch.Generator().manual_seed(0), std=0.02)
        >>> round(layer.weight.std().item(), 2)
        0.02
    """
    with Draws(generator) as draws:
        for layer in layers:
            draws.normal(weight_of(layer), std)
            _constant(bias_of(layer), 0.0)


@operation
@torch.no_grad()
def truncated_normal(layers: Layers, generator: Generator | None = None, *, std: float = 0.1) -> None:
    """Draw normal weights of mean 0, again where they exceed two standard deviations; biases 0.

    Source: the released code of Szegedy et al. 2016, whose Inception networks start so.

    Examples:
        >>> import cnnzoo
        >>> import torch
        >>> layer = torch.nn.Linear(100, 100)
        >>> cnnzoo.initialization.truncated_normal([layer], torch.Generator().manual_seed(0), std=0.1)
        >>> layer.weight.abs().max().item() <= 0.2
        True
    """
    with Draws(generator) as draws:
        for layer in layers:
            draws.truncated_normal(weight_of(layer), std)
            _constant(bias_of(layer), 0.0)


@operation
@torch.no_grad()
def glorot2010(
    layers: Layers,
    generator: Generator | None = None,
    *,
    distribution: Literal["uniform", "normal"] = "uniform",
) -> None:
    """Draw weights of variance 2 / (fan-in + fan-out), biases 0; also known as Xavier initialization.

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks" (2010),
    equations 12 and 16 (the "normalized initialization", uniform within sqrt(6 / (fan-in + fan-out))).

    Examples:
        >>> import cnnzoo
        >>> import torch
        >>> layer = torch.nn.Linear(100, 50)
        >>> cnnzoo.initialization.glorot2010([layer], torch.Generator().manual_seed(0))
        >>> layer.weight.abs().max().item() <= (6 / 150) ** 0.5
        True
    """
    with Draws(generator) as draws:
        for layer in layers:
            fan_in, fan_out = fans(layer)
            _scaled(layer, 2 / (fan_in + fan_out), distribution, draws)


@operation
@torch.no_grad()
def he2015(
    layers: Layers,
    generator: Generator | None = None,
    *,
    mode: Literal["fan_in", "fan_out"] = "fan_in",
    distribution: Literal["normal", "uniform"] = "normal",
) -> None:
    """Draw weights of variance 2 / fan, biases 0, for layers followed by ReLU; also known as Kaiming initialization.

    The paper derives fan-in (equation 10) and fan-out (equation 14) and finds either enough. The last layer is
    treated like every other.

    Source: He, Zhang, Ren, Sun, "Delving Deep into Rectifiers" (2015), section 2.2.

    Examples:
        >>> import cnnzoo
        >>> import torch
        >>> layer = torch.nn.Conv2d(64, 64, 3)
        >>> cnnzoo.initialization.he2015([layer], torch.Generator().manual_seed(0))
        >>> round(layer.weight.std().item(), 2)  # sqrt(2 / (64 * 3 * 3))
        0.06
    """
    if mode not in ("fan_in", "fan_out"):
        raise OptionError(f"got mode={mode!r}; it is 'fan_in' or 'fan_out'")
    with Draws(generator) as draws:
        for layer in layers:
            _scaled(layer, 2 / fans(layer)[mode == "fan_out"], distribution, draws)


@operation
@torch.no_grad()
def orthogonal(layers: Layers, generator: Generator | None = None, *, gain: float = 1.0) -> None:
    """Draw weights whose rows or columns, as (outputs, inputs), are orthonormal times `gain`; biases 0.

    Source: Saxe, McClelland, Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural
    networks" (2013).

    Examples:
        >>> import cnnzoo
        >>> import torch
        >>> layer = torch.nn.Linear(8, 8)
        >>> cnnzoo.initialization.orthogonal([layer], torch.Generator().manual_seed(0))
        >>> torch.allclose(layer.weight @ layer.weight.T, torch.eye(8), atol=1e-5)
        True
    """
    for layer in layers:
        weight = weight_of(layer)
        if weight.ndim > 1:
            flat = torch.empty(len(weight), weight[0].numel(), device=weight.device)
            weight.copy_(nn.init.orthogonal_(flat, gain, generator=generator).view_as(weight))
        else:
            weight.fill_(gain)  # one number for each map: the orthogonal 1x1 matrix
        _constant(bias_of(layer), 0.0)


@operation
@torch.no_grad()
def sparse(layers: Layers, generator: Generator | None = None, *, connections: int = 15, std: float = 1.0) -> None:
    """Draw `connections` normal weights for each unit; its other weights and its bias are 0.

    Source: Martens, "Deep learning via Hessian-free optimization" (2010), section 5, "sparse initialization".

    Examples:
        >>> import cnnzoo
        >>> import torch
        >>> layer = torch.nn.Linear(100, 4)
        >>> cnnzoo.initialization.sparse([layer], torch.Generator().manual_seed(0), connections=15)
        >>> (layer.weight != 0).sum(1)
        tensor([15, 15, 15, 15])
    """
    normal(layers, generator, std=std)
    for layer in layers:
        for units in units_of(layer):
            rank = torch.rand(units.flatten(1).shape, generator=generator, device=units.device).argsort(1).argsort(1)
            units.masked_fill_((rank >= connections).view_as(units), 0)


@operation
@torch.no_grad()
def constant(layers: Layers, generator: Generator | None = None, *, value: float = 0.1) -> None:
    """Set every weight to the same value, to see why it fails: all units of a layer compute and learn the same.

    Examples:
        >>> import cnnzoo
        >>> import torch
        >>> layer = torch.nn.Linear(4, 2)
        >>> cnnzoo.initialization.constant([layer], value=0.5)
        >>> layer.weight.unique().tolist()
        [0.5]
    """
    for layer in layers:
        _constant(weight_of(layer), value)
        _constant(bias_of(layer), 0.0)


@operation
@torch.no_grad()
def zeros(layers: Layers, generator: Generator | None = None) -> None:
    """Set everything to 0, to see why it fails: no gradient passes a layer whose weights are 0.

    Examples:
        >>> import cnnzoo
        >>> import torch
        >>> layer = torch.nn.Linear(4, 2)
        >>> cnnzoo.initialization.zeros([layer])
        >>> layer.weight.abs().sum().item()
        0.0
    """
    constant(layers, generator, value=0.0)


SCHEMES: dict[str, Scheme] = {
    "torch_default": torch_default,
    "lecun1998": lecun1998,
    "krizhevsky2012": krizhevsky2012,
    "simonyan2014": simonyan2014,
    "normal": normal,
    "truncated_normal": truncated_normal,
    "glorot2010": glorot2010,
    "he2015": he2015,
    "orthogonal": orthogonal,
    "sparse": sparse,
    "constant": constant,
    "zeros": zeros,
}


def _scaled(layer: nn.Module, variance: Fan, distribution: str, draws: Draws) -> None:
    if distribution == "uniform":
        draws.uniform(weight_of(layer), (3 * variance) ** 0.5)  # the variance of a uniform is bound^2 / 3
    elif distribution == "normal":
        draws.normal(weight_of(layer), variance**0.5)
    else:
        raise OptionError(f"got distribution={distribution!r}; it is 'uniform' or 'normal'")
    _constant(bias_of(layer), 0.0)


def _constant(tensor: Tensor | None, value: float) -> None:
    if tensor is not None:
        tensor.fill_(value)
