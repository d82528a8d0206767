"""A copy of a network whose weights are plain parameters: pruning, normalised and parametrised weights are applied."""

import copy
import warnings
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm

Model = TypeVar("Model", bound=nn.Module)


@torch.inference_mode(False)
@torch.enable_grad()  # or a weight would not become a parameter
def plain(model: Model) -> Model:
    """A copy in evaluation mode that computes the same from its parameters alone.

    What computes a weight anew at every call (`torch.nn.utils.prune`, `weight_norm`, `spectral_norm`,
    `parametrize` and what is built on it) has its last say, and is gone.
    """
    # A weight that is computed has a history of gradients, with which torch copies nothing.
    computed = {id(tensor): tensor.detach().clone() for tensor in _computed(model)}
    model = copy.deepcopy(model, dict(computed)).eval()
    for module in list(model.modules()):
        if parametrize.is_parametrized(module):
            _own_class(module)  # that of a copy is the original's, and would lose its weights with it
            parametrizations: Any = module.parametrizations
            for name in list(parametrizations):
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)
        own = {name for name, _ in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))}
        for name in sorted(own):
            weight = name.removesuffix("_orig").removesuffix("_g")
            if name == f"{weight}_orig" and f"{weight}_mask" in own:
                prune.remove(module, weight)
            elif name == f"{weight}_orig" and f"{weight}_u" in own:
                remove_spectral_norm(module, weight)
            elif name == f"{weight}_g" and f"{weight}_v" in own:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", FutureWarning)  # the old form, which others still use
                    remove_weight_norm(module, weight)
    return model


def _own_class(module: nn.Module) -> None:
    """Give a parametrised module a class of its own, of which its weights are properties."""
    shared = type(module)
    own = {name: value for name, value in vars(shared).items() if name not in ("__dict__", "__weakref__")}
    bases: Any = shared.__bases__
    made: Any = type(shared.__name__, bases, own)
    module.__class__ = made


def _computed(model: nn.Module) -> Iterator[Tensor]:
    """Tensors that are attributes of modules, or in lists of theirs, and no parameters."""
    for module in model.modules():
        for value in vars(module).values():
            for one in value if isinstance(value, (list, tuple)) else (value,):
                if isinstance(one, Tensor) and one.grad_fn is not None:
                    yield one
