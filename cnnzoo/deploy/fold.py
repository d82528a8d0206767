"""Batch normalisation that is no longer trained is a scale and a shift, which the convolution before it can do."""

from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from cnnzoo.deploy.checking import Reference, random_images
from cnnzoo.deploy.plain import plain
from cnnzoo.errors import DeployError, operation
from cnnzoo.shapes.trace import is_leaf
from cnnzoo.support.text import first_line
from cnnzoo.support.torch_private import BATCH_NORM, CONVOLUTION, TRANSPOSED_CONVOLUTION
from cnnzoo.support.tracing import Tracer
from cnnzoo.support.wrappers import inside

Model = TypeVar("Model", bound=nn.Module)


@operation
def fold_batchnorm(model: Model, input_shape: Sequence[int] | None = None) -> Model:
    """Fold every batch normalisation into the convolution or linear layer before it, in a copy for inference.

    The normalisation's place is taken by `nn.Identity`, so that every layer keeps its name. One that follows
    something else, as the first of a pre-activation block does, stays. The copy is in evaluation mode, and has
    computed the same as the model on random images, to 1e-4 of the largest score. Weights that are computed at every
    call (pruned, weight-normalised, parametrised) are plain parameters in it.

    Args:
        model: any network that torch.fx can follow, or that has nothing to fold; it is not changed.
        input_shape: (C, H, W) of the images; by default the network's own.

    Raises:
        DeployError: there is something to fold in a network whose `forward` branches on values or shapes, or the
            folded network computes something else.

    Source: Jacob et al. 2018, "Quantization and Training of Neural Networks", section 3.2.

    Examples:
        >>> import cnnzoo
        >>> import torch
        >>> folded = cnnzoo.fold_batchnorm(cnnzoo.create("cifar_resnet20", seed=0))
        >>> any(isinstance(layer, torch.nn.BatchNorm2d) for layer in folded.modules())
        False
    """
    model = inside(model)
    reference = Reference(model, random_images(model, input_shape))
    made = folded(model, reference.images)
    with torch.inference_mode():
        reference.compare(made(reference.images))
    return made


def folded(model: Model, images: Tensor | None = None) -> Model:
    """What `fold_batchnorm` returns, unchecked.

    Args:
        model: the network; it is not changed.
        images: what it is given. They tell where the normalisation behind a linear layer is of the steps of a sequence
            and not of its units; without them, all are taken for the second.
    """
    model = plain(model)
    fold(model, images)
    return model


def folded_if_possible(model: Model, images: Tensor) -> tuple[Model, str]:
    """The folded network; where that cannot be, one with plain weights, and why."""
    try:
        return folded(model, images), ""
    except DeployError as error:
        return plain(model), f"normalisation is not folded: {error.text}"


def fold(model: nn.Module, images: Tensor | None = None) -> None:
    """The same in place, for a network of plain weights; it may be on the meta device."""
    modules = dict(model.eval().named_modules())
    if not any(isinstance(module, BATCH_NORM) for module in modules.values()):
        return
    pairs = _pairs(model)
    over_steps = set() if images is None else _over_steps(model, images, [norm for _, norm in pairs])
    for before, norm in pairs:
        layer, bn = modules[before], modules[norm]
        assert isinstance(bn, BATCH_NORM)
        if isinstance(layer, nn.Linear):
            if norm in over_steps or bn.num_features != layer.out_features:
                continue
            fused = fuse_linear_bn_eval(layer, bn)
        else:
            assert isinstance(layer, CONVOLUTION)
            fused = fuse_conv_bn_eval(layer, bn, transpose=isinstance(layer, TRANSPOSED_CONVOLUTION))
        model.set_submodule(before, fused)
        model.set_submodule(norm, _remainder(bn))


def _over_steps(model: nn.Module, images: Tensor, norms: Sequence[str]) -> set[str]:
    """Those of the normalisations that are given (N, steps, units), of which they normalise the steps."""
    found: set[str] = set()
    handles = []
    for name in norms:
        norm = model.get_submodule(name)
        if isinstance(norm, nn.BatchNorm1d | nn.LazyBatchNorm1d):

            def look(module: nn.Module, args: tuple[Tensor, ...], name: str = name) -> None:
                if args[0].ndim > 2:
                    found.add(name)

            handles.append(norm.register_forward_pre_hook(look))
    try:
        with torch.inference_mode():
            if handles:
                model(images)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _pairs(model: nn.Module) -> list[tuple[str, str]]:
    """Names of the layers whose output goes into one normalisation and nowhere else, with that normalisation's."""
    graph = _Tracer().trace(model)
    modules = dict(model.named_modules())
    calls = Counter(modules[str(node.target)] for node in graph.nodes if node.op == "call_module")
    pairs = []
    for node in graph.nodes:
        if node.op != "call_module" or not isinstance(modules[str(node.target)], BATCH_NORM):
            continue
        before = node.args[0] if node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        layer, norm = modules[str(before.target)], modules[str(node.target)]
        foldable = isinstance(layer, CONVOLUTION | nn.Linear) and norm.running_mean is not None
        foldable &= not (isinstance(layer, TRANSPOSED_CONVOLUTION) and layer.groups > 1)  # torch folds these wrongly
        if foldable and calls[layer] == calls[norm] == 1:
            pairs.append((str(before.target), str(node.target)))
    return pairs


class _Tracer(Tracer):
    """Follows a network's `forward` down to its leaves; what a leaf does inside is its own matter."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return is_leaf(m) or isinstance(m, BATCH_NORM)  # timm's normalisation holds an activation

    def trace(self, root, concrete_args=None) -> fx.Graph:
        try:
            return super().trace(root, concrete_args)
        except Exception as error:  # a forward that is given proxies in place of tensors fails in ways of its own
            name = type(root).__name__
            raise DeployError(
                f"cannot follow the forward of {name}: {first_line(error)}; fold the parts of it that have no such "
                "branches, or take a network without"
            ) from None


def _remainder(norm: nn.Module) -> nn.Module:
    """What is left of a folded normalisation: nothing, or the layers that it holds."""
    inside = list(norm.children())
    return nn.Sequential(*inside) if inside else nn.Identity()
