"""The optimiser of 1998: the stochastic diagonal Levenberg-Marquardt method.

LeCun et al. 1998, Appendix C. Every parameter has a learning rate of its own, the smaller the more the criterion curves
along it. The curvature is estimated on a few hundred images by a second pass backwards, in which second derivatives
take the place of first ones.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp

from cnnzoo.cnn import CNN
from cnnzoo.errors import OptionError, operation
from cnnzoo.nn import ConnectionTableConv2d, RBFOutput, ScaledTanh, Subsample

Criterion = Callable[[Tensor, Tensor], Tensor]
"""Scores (N, K) and labels (N,) to their mean loss."""

WEIGHTED = (nn.Conv2d, nn.Linear, ConnectionTableConv2d, Subsample)
ELEMENTWISE = (ScaledTanh, nn.Tanh, nn.Sigmoid, nn.ReLU, nn.Identity)
SELECTING = (nn.Flatten, nn.MaxPool2d)


class SDLM(torch.optim.Optimizer):
    """Stochastic diagonal Levenberg-Marquardt: w -= lr / (mu + h) * gradient, with h the curvature along w.

    `estimate` measures the curvature; the paper does so before every pass over the training set, on 500 images. It is
    part of the optimiser's state. The method is meant for one image at a time.

    Args:
        params: the parameters, or groups of them.
        lr: the global learning rate; the paper goes from 0.0005 to 0.00001 in twenty passes.
        mu: keeps the steps finite where the criterion is flat.
        samples: images that whoever trains gives to `estimate`.

    Raises:
        OptionError: `mu` is not positive, or a step came before the first estimate.

    Source: LeCun et al. 1998, equations 21 to 25 and section III-B.
    """

    def __init__(self, params: Iterable[Any], lr: float = 5e-4, mu: float = 0.02, samples: int = 500) -> None:
        if not (lr >= 0 and mu > 0 and samples > 0):
            raise OptionError(
                f"SDLM: got lr={lr}, mu={mu}, samples={samples}; mu and samples are positive, lr at least 0"
            )
        super().__init__(params, {"lr": lr, "mu": mu})
        self.samples = samples

    def estimate(self, network: CNN, criterion: Criterion, images: Tensor, labels: Tensor) -> None:
        """Measure the curvature along every parameter, the mean over some images.

        Raises:
            OptionError: the network has a layer through which second derivatives cannot be propagated.
        """
        for parameter, found in curvature(network, criterion, images, labels).items():
            self.state[parameter]["curvature"] = found

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step along the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if "curvature" not in self.state[parameter]:
                    raise OptionError("SDLM: a step came before the curvature is known; call estimate() first")
                scale = self.state[parameter]["curvature"] + group["mu"]
                parameter.addcdiv_(parameter.grad, scale, value=-group["lr"])


@operation
def curvature(network: CNN, criterion: Criterion, images: Tensor, labels: Tensor) -> dict[nn.Parameter, Tensor]:
    """Compute the diagonal Gauss-Newton approximation of the criterion's second derivatives, the mean over images.

    From layer to layer, the second derivative with respect to an input is the sum of those with respect to the outputs
    times the squared weights between them (equation 24, without the term of the squashing function's own curvature);
    that with respect to a weight is the one of its output times the squared input, summed over all connections that
    share the weight (equations 22 and 25). Those of the criterion itself are exact.

    Args:
        network: a chain of convolutions, sub-sampling, linear layers, squashing functions and plain pooling.
        criterion: which also takes the distances of an RBF output, whose codes are not trained.
        images: (N, C, H, W).
        labels: (N,).

    Returns:
        A tensor of each parameter's shape.

    Raises:
        OptionError: the chain has another layer; the message names it.

    Examples:
        >>> import cnnzoo
        >>> import torch
        >>> model, criterion = cnnzoo.create("lenet5", seed=0), torch.nn.functional.cross_entropy
        >>> found = cnnzoo.training.curvature(model, criterion, torch.rand(4, 1, 28, 28), torch.arange(4))
        >>> found[model.c1.weight].shape
        torch.Size([6, 1, 5, 5])
    """
    layers = network.chain()
    last = next(reversed(layers), "")
    output = layers.pop(last) if isinstance(layers.get(last), RBFOutput) else nn.Identity()
    inputs, x = {}, images
    with torch.no_grad():
        for name, layer in layers.items():
            inputs[name], x = x, layer(x)
    second = _of_criterion(lambda features: criterion(output(features), labels), x)
    found: dict[nn.Parameter, Tensor] = {}
    for name, layer in reversed(layers.items()):
        for parameter, values in _of_parameters(layer, inputs[name], second):
            found[parameter] = values / len(images)
        second = _of_input(name, layer, inputs[name], second)
    return found


def _of_criterion(criterion: Callable[[Tensor], Tensor], features: Tensor) -> Tensor:
    """Second derivatives of each image's own loss with respect to its features (N, F); at least 0.

    For these criteria the matrix of all second derivatives has no negative eigenvalue: only rounding is cut off.
    """
    with torch.enable_grad():
        features = features.detach().requires_grad_()
        (first,) = torch.autograd.grad(criterion(features) * len(features), features, create_graph=True)
        columns = [
            torch.autograd.grad(first[:, i].sum(), features, retain_graph=True)[0][:, i]
            for i in range(features.shape[1])
        ]
    return torch.stack(columns, 1).clamp_min(0)


def _of_parameters(layer: nn.Module, x: Tensor, second: Tensor) -> Iterator[tuple[nn.Parameter, Tensor]]:
    """What the second derivatives of a layer's output say of its parameters, summed over images.

    The output is linear in the parameters: their coefficients are the inputs, and squared ones are those of the same
    layer on squared inputs.
    """
    if not isinstance(layer, WEIGHTED):
        return
    parameters = dict(layer.named_parameters())
    detached = {name: parameter.detach() for name, parameter in parameters.items()}
    found = _back(lambda given: functional_call(layer, given, (x.square(),)), detached, second)
    for name, values in found.items():
        yield parameters[name], values


def _of_input(name: str, layer: nn.Module, x: Tensor, second: Tensor) -> Tensor:
    """Second derivatives with respect to a layer's input, from those with respect to its output."""
    if isinstance(layer, WEIGHTED):
        squared = {key: parameter.detach().square() for key, parameter in layer.named_parameters()}
        return _back(lambda given: functional_call(layer, squared, (given,)), x, second)
    if isinstance(layer, ELEMENTWISE):
        return second * _back(layer, x, torch.ones_like(second)).square()
    if isinstance(layer, SELECTING):
        return _back(layer, x, second)
    if isinstance(layer, nn.AvgPool2d):
        k = layer.kernel_size
        area = k * k if isinstance(k, int) else k[0] * k[1]
        return _back(layer, x, second) / area  # every coefficient is 1 / area, its square that divided by area
    raise OptionError(
        f"SDLM: no second derivatives are known through layer {name} ({type(layer).__name__}); the method is for "
        "chains of convolutions, sub-sampling, linear layers and squashing functions, such as lenet5; take another "
        "optimizer"
    )


def _back(layer: Callable[[Any], Tensor], x: Any, cotangent: Tensor) -> Any:
    """The cotangent of a layer's output, taken back to its input."""
    return vjp(layer, x)[1](cotangent)[0]
