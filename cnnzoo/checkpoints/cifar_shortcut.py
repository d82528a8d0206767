"""CIFAR ResNets of other programs, whose shortcut without parameters puts its zeros elsewhere.

Option A of the paper pads the channels that are new with zeros, and does not say where. cnnzoo pads after the old
channels; a widely used program pads half of them before and half after. Both are the same network with its channels in
another order, so that the weights of one, renamed alone, fit the other and give wrong classes without any error.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeGuard, get_args

import torch
from torch import Tensor, nn

from cnnzoo.checkpoints.table import Checkpoint
from cnnzoo.data.preprocessing import MEAN, STD, Preprocessing
from cnnzoo.errors import CheckpointError, unknown
from cnnzoo.models.cifar_resnet import CifarResNet
from cnnzoo.nn.residual import ZeroPadShortcut

ZeroChannels = Literal["after", "around"]
"""Where a shortcut without parameters puts its zeros: after the old channels, or half before and half after them."""

RENAMED = {"layer1": "stage1", "layer2": "stage2", "layer3": "stage3", "linear": "fc"}

AKAMASTER = Checkpoint(
    tag="akamaster",
    preprocessing=Preprocessing(size=32, mean=MEAN, std=STD),
    class_set="cifar10",
    data="cifar10",
    card="Trained by akamaster/pytorch_resnet_cifar10, or a program with the same names and shortcut.",
)
"""What is known of weights in that form: the program normalises with the statistics of ImageNet."""


def is_foreign(model: nn.Module, tensors: Mapping[str, Tensor]) -> TypeGuard[CifarResNet]:
    """Whether tensors carry the usual foreign names of a CIFAR ResNet whose shortcuts have no parameters."""
    padded = isinstance(model, CifarResNet) and any(isinstance(one, ZeroPadShortcut) for one in model.modules())
    return padded and "layer1.0.conv1.weight" in tensors and "layer4.0.conv1.weight" not in tensors


def is_akamaster(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of a program that is known to pad around the old channels."""
    return "linear.weight" in tensors


def converted(
    model: CifarResNet, tensors: Mapping[str, Tensor], path: Path, zero_channels: ZeroChannels | None
) -> tuple[dict[str, Tensor], Checkpoint | None]:
    """Convert the weights of a foreign CIFAR ResNet to the names and the channel order of ours.

    Args:
        model: what they are for; it is not changed, and may be on the meta device.
        tensors: the weights.
        path: where they are from, for the message.
        zero_channels: where their shortcuts put the zeros, where the names do not tell.

    Returns:
        The weights, and what is known of them.

    Raises:
        CheckpointError: the names do not tell where the zeros are.
        UnknownNameError: `zero_channels` is neither of the two places.
    """
    known = is_akamaster(tensors)
    if zero_channels is None and not known:
        raise CheckpointError(
            f"{path} holds weights of a CIFAR ResNet under the names of another program, and its shortcuts have no "
            "parameters: whether their zeros stand after the old channels or half before and half after them is not "
            "in the file, and the wrong choice gives wrong classes without an error; state zero_channels='after' or "
            "zero_channels='around', as the program's code pads"
        )
    if zero_channels not in (None, *get_args(ZeroChannels)):
        raise unknown("", "place of zero_channels", str(zero_channels), get_args(ZeroChannels))
    ours = {_renamed(name): tensor for name, tensor in tensors.items()}
    return ours if zero_channels == "after" else _reordered(model, ours), AKAMASTER if known else None


def _renamed(name: str) -> str:
    first, dot, rest = name.partition(".")
    return RENAMED.get(first, first) + dot + rest


def _reordered(model: CifarResNet, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with the channels between blocks in our order; those inside a block stay as they are."""
    orders = _orders(model)
    result = dict(tensors)
    for name, tensor in tensors.items():
        stage, _, rest = name.partition(".")
        block, _, inner = rest.partition(".")
        if name == "fc.weight":
            result[name] = _taken(tensor, orders["stage3"], 1)
        elif stage in orders and inner == "conv1.weight":
            before = orders.get(f"stage{int(stage[-1]) - 1}") if block == "0" else orders[stage]
            result[name] = tensor if before is None else _taken(tensor, before, 1)
        elif stage in orders and inner.startswith(("conv2.", "bn2.")) and tensor.ndim:
            result[name] = _taken(tensor, orders[stage], 0)
    return result


def _orders(model: CifarResNet) -> dict[str, Tensor]:
    """For each stage, at which of their channels each of ours is."""
    order = torch.arange(len(model.get_parameter("bn1.weight")))
    orders = {"stage1": order}
    for stage in ("stage2", "stage3"):
        extra = next(one.extra for one in model.get_submodule(stage).modules() if isinstance(one, ZeroPadShortcut))
        before, old = extra // 2, len(order)
        new = [*range(before), *range(before + old, extra + old)]
        orders[stage] = order = torch.cat([order + before, torch.tensor(new)])
    return orders


def _taken(tensor: Tensor, order: Tensor, axis: int) -> Tensor:
    """The tensor in another order; one of another size is left for the comparison of shapes to report."""
    fits = tensor.ndim > axis and tensor.shape[axis] == len(order)
    return tensor.index_select(axis, order) if fits else tensor
