"""What a score depends on: gradients, what a layer contributes, and what happens when a part is hidden."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from cnnzoo.errors import OptionError, operation
from cnnzoo.interpretation.running import (
    Target,
    at,
    check_images,
    differentiable,
    evaluated,
    picked,
    scores_of,
    watched,
)
from cnnzoo.shapes.trace import LayerShape, trace


@operation
def grad_cam(model: nn.Module, images: Tensor, target: Target = None, *, layer: str | None = None) -> Tensor:
    """Find where a layer sees evidence for a class: its maps, weighted by the mean gradient of the class's score.

    Args:
        model: any network that gives scores (N, classes).
        images: (N, C, H, W), as the network takes them.
        target: the class, or one for each image; by default the one with the highest score.
        layer: whose maps to take; by default the last that has height and width and is not a pooling.

    Returns:
        (N, h, w) in the size of the layer's maps, not negative. `plot_heat` lays it over the images.

    Raises:
        UnknownNameError: there is no such layer.
        OptionError: the layer does not give maps or the target is no class.
        ShapeError: the images do not fit the network.

    Source: Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization"
    (ICCV 2017), equations 1 and 2.

    Examples:
        >>> import cnnzoo, torch
        >>> model = cnnzoo.create("lenet5", seed=0)
        >>> cnnzoo.interpretation.grad_cam(model, torch.rand(2, 1, 28, 28), target=3).shape
        torch.Size([2, 10, 10])
    """
    maps, gradients, _ = _maps_and_gradients(model, images, target, layer, "grad_cam")
    weights = gradients.mean((2, 3), keepdim=True)
    return (weights * maps).sum(1).relu()


@operation
def class_activation_map(model: nn.Module, images: Tensor, target: Target = None) -> Tensor:
    """Compute how much each place of the last maps adds to the score of a class, exactly.

    Only for networks that end in global average pooling and one linear layer, as GoogLeNet and the ResNets do. The mean
    of a map over its places, plus the class's bias, is the score.

    Args:
        model: the network.
        images: (N, C, H, W), as the network takes them.
        target: the class, or one for each image; by default the one with the highest score.

    Returns:
        (N, h, w), negative where a place speaks against the class.

    Raises:
        OptionError: the network does not end so, or the target is no class.
        ShapeError: the images do not fit the network.

    Source: Zhou et al., "Learning Deep Features for Discriminative Localization" (CVPR 2016), equation 2.

    Examples:
        >>> import cnnzoo, torch
        >>> model = cnnzoo.create("cifar_resnet20", seed=0)
        >>> cnnzoo.interpretation.class_activation_map(model, torch.rand(1, 3, 32, 32)).shape
        torch.Size([1, 8, 8])
    """
    check_images(model, images)
    calls = trace(model, tuple(images.shape[1:]), "class_activation_map")
    wrong = OptionError(
        f"{type(model).__name__} does not end in global average pooling and one linear layer; "
        "grad_cam works on any network"
    )
    modules = dict(model.named_modules())
    heads = [call.name for call in calls if isinstance(modules[call.name], nn.Linear)]
    spatial = [call.name for call in calls if len(call.output_shape) == 3 and max(call.output_shape[1:]) > 1]
    if not heads or not spatial:
        raise wrong
    head = modules[heads[-1]]
    assert isinstance(head, nn.Linear)
    pooled: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda module, args: pooled.append(args[0]))
    try:
        with evaluated(model), torch.no_grad(), watched(model, spatial[-1]) as seen:
            scores = scores_of(model, images)
    finally:
        handle.remove()
    maps = seen[-1]
    with torch.no_grad():
        same = maps.shape[1] == head.in_features and pooled[-1].ndim == 2
        if not same or not torch.allclose(
            maps.mean((2, 3)), pooled[-1], rtol=1e-3, atol=1e-4 * float(maps.abs().max())
        ):
            raise wrong
        if scores.shape[1] != head.out_features or not torch.equal(head(pooled[-1]), scores):
            raise wrong
        chosen = at(scores, target)
        return torch.einsum("nk,nkhw->nhw", head.weight[chosen], maps)


@operation
def saliency(model: nn.Module, images: Tensor, target: Target = None, *, guided: bool = False) -> Tensor:
    """Compute how the score of a class changes with each pixel: its gradient.

    Args:
        model: any network that gives scores (N, classes).
        images: (N, C, H, W), as the network takes them.
        target: the class, or one for each image; by default the one with the highest score.
        guided: let only positive gradients pass back through ReLUs, which shows cleaner outlines (guided
            backpropagation). What comes out is then no gradient of the network any more.

    Returns:
        (N, C, H, W), like the images.

    Raises:
        OptionError: `guided` and the network has no ReLU, or the target is no class.
        ShapeError: the images do not fit the network.

    Source: Simonyan et al., "Deep Inside Convolutional Networks" (2013), section 3; Springenberg et al., "Striving for
    Simplicity: The All Convolutional Net" (2015), section 3.4.

    Examples:
        >>> import cnnzoo, torch
        >>> model = cnnzoo.create("resnet18", seed=0)
        >>> cnnzoo.interpretation.saliency(model, torch.rand(1, 3, 64, 64), guided=True).shape
        torch.Size([1, 3, 64, 64])
    """
    with torch.enable_grad(), evaluated(model):
        given = differentiable(model, images)
        with _Guided() if guided else _nothing() as mode:
            scores = scores_of(model, given.clone())
        if mode is not None and not mode.found:
            raise OptionError(f"guided=True needs ReLUs, and {type(model).__name__} has none; leave guided out")
        chosen = at(scores, target)
        return torch.autograd.grad(picked(scores, chosen).sum(), given)[0]


@operation
@torch.no_grad()
def occlusion(
    model: nn.Module,
    images: Tensor,
    target: Target = None,
    *,
    window: int | tuple[int, int] | None = None,
    stride: int | tuple[int, int] | None = None,
    fill: float = 0.0,
    batch_size: int = 64,
) -> Tensor:
    """Measure how much the score of a class falls when a window of the image is hidden.

    Args:
        model: any network that gives scores (N, classes).
        images: (N, C, H, W), as the network takes them.
        target: the class, or one for each image; by default the one with the highest score of the whole image.
        window: (height, width) of what is hidden, in pixels; by default an eighth of the image.
        stride: how far the window moves; by default half of it.
        fill: what it is filled with. Where images are normalised, 0 is the mean colour.
        batch_size: images that the network takes at a time.

    Returns:
        (N, H, W), for each pixel the mean fall over all windows that hide it.

    Raises:
        OptionError: the window or stride is no size, or the target is no class.
        ShapeError: the images do not fit the network.

    Source: Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks" (ECCV 2014), section 4.2.

    Examples:
        >>> import cnnzoo, torch
        >>> model = cnnzoo.create("lenet5", seed=0)
        >>> cnnzoo.interpretation.occlusion(model, torch.rand(1, 1, 28, 28), window=7).shape
        torch.Size([1, 28, 28])
    """
    check_images(model, images)
    size = (images.shape[2], images.shape[3])
    high, wide = _pair(window, (max(1, size[0] // 8), max(1, size[1] // 8)), size, "window")
    down, across = _pair(stride, (max(1, high // 2), max(1, wide // 2)), size, "stride")
    tops, lefts = _starts(size[0], high, down), _starts(size[1], wide, across)
    fall, times = (images.new_zeros(len(images), *size, dtype=torch.float64) for _ in range(2))
    with evaluated(model):
        whole = scores_of(model, images)
        chosen = at(whole, target)
        jobs = [(n, top, left) for top in tops for left in lefts for n in range(len(images))]
        for start in range(0, len(jobs), batch_size):
            part = jobs[start : start + batch_size]
            hidden = images[[n for n, _, _ in part]].clone()
            for row, (_, top, left) in enumerate(part):
                hidden[row, :, top : top + high, left : left + wide] = fill
            rows = torch.tensor([n for n, _, _ in part], device=images.device)
            scores = picked(model(hidden), chosen[rows])
            for (n, top, left), change in zip(part, picked(whole, chosen)[rows] - scores, strict=True):
                fall[n, top : top + high, left : left + wide] += change
                times[n, top : top + high, left : left + wide] += 1
    return (fall / times.clamp_min(1)).to(images.dtype)


def _pair(
    value: int | tuple[int, int] | None, default: tuple[int, int], size: tuple[int, int], name: str
) -> tuple[int, int]:
    pair = default if value is None else (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or not all(
        isinstance(one, int) and 1 <= one <= most for one, most in zip(pair, size, strict=True)
    ):
        raise OptionError(
            f"got {name}={value!r}; it is a number of pixels, or (height, width), from 1 to {size[0]}x{size[1]}"
        )
    return pair[0], pair[1]


def _starts(size: int, window: int, stride: int) -> list[int]:
    """Where windows begin, so that every pixel is hidden by one; the last may reach beyond the image."""
    return list(range(0, max(size - window, 0) + stride, stride))


def _maps_and_gradients(
    model: nn.Module, images: Tensor, target: Target, layer: str | None, operation: str
) -> tuple[Tensor, Tensor, Tensor]:
    """A layer's maps, the gradients of the score with respect to them, and the scores."""
    check_images(model, images)
    if layer is None:
        layer = last_maps(trace(model, tuple(images.shape[1:]), operation))
        if layer is None:
            raise OptionError(f"no layer of {type(model).__name__} has height and width on these images")
    with torch.enable_grad(), evaluated(model), watched(model, layer) as seen:
        scores = scores_of(model, differentiable(model, images).clone())
        if not seen:
            raise OptionError(f"the network does not run layer {layer}")
        maps = seen[-1]
        if maps.ndim != 4:
            raise OptionError(
                f"layer {layer} gives {tuple(maps.shape)}; expected maps (N, C, H, W), as a convolution gives"
            )
        chosen = at(scores, target)
        (gradients,) = torch.autograd.grad(picked(scores, chosen).sum(), maps, allow_unused=True)
    if gradients is None:
        raise OptionError(f"the score does not depend on what layer {layer} gives")
    return maps.detach(), gradients, scores.detach()


def last_maps(calls: list[LayerShape]) -> str | None:
    """The last layer whose output has height and width; a pooling or dropout that follows it adds nothing."""
    for call in reversed(calls):
        if call.name and len(call.output_shape) == 3 and max(call.output_shape[1:]) > 1:
            if "Pool" in call.kind or "Drop" in call.kind or call.kind == "Subsample":
                continue
            return call.name
    return None


class _Rectified(torch.autograd.Function):
    """A ReLU whose gradient passes back only where it is positive."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x > 0)
        return x.clamp_min(0)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (positive,) = ctx.saved_tensors
        return grad_outputs[0].clamp_min(0) * positive


class _Guided(TorchFunctionMode):
    """Every ReLU that runs, as a layer or a function, is a guided one."""

    def __init__(self) -> None:
        super().__init__()
        self.found = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in _RELUS:
            return func(*args, **kwargs)
        self.found = True
        x = args[0] if args else kwargs["input"]
        in_place = func in _IN_PLACE or kwargs.get("inplace", len(args) > 1 and args[1])
        if not in_place:
            return _Rectified.apply(x)
        return x.copy_(_Rectified.apply(x.clone()))


_IN_PLACE = {torch.relu_, torch.Tensor.relu_}
_RELUS = {F.relu, torch.relu, torch.Tensor.relu, *_IN_PLACE}


@contextmanager
def _nothing() -> Iterator[None]:
    yield None
