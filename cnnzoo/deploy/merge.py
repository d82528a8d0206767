"""The 1x1 convolutions that open the branches of an Inception block see the same maps: one wide one can do for all."""

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from cnnzoo.deploy.checking import Reference, random_images
from cnnzoo.deploy.plain import plain
from cnnzoo.errors import operation
from cnnzoo.nn.inception import Branches, ConvUnit
from cnnzoo.support.wrappers import inside


class MergedBranches(nn.Module):
    """`Branches` whose opening 1x1 units are one unit `opening`; its output is split among the branches.

    Images (N, C, H, W) to what the branches give.

    Args:
        openings: the opening units by branch; at least two.
        rests: every branch without its opening unit, in order.
    """

    def __init__(self, openings: Mapping[str, ConvUnit], rests: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.opening = joined(list(openings.values()))
        self.sizes = [unit.conv.out_channels for unit in openings.values()]
        self.opened = list(openings)
        self.rests = nn.ModuleDict(rests)

    def forward(self, x: Tensor) -> Tensor:
        opened = dict(zip(self.opened, self.opening(x).split(self.sizes, 1), strict=True))
        return torch.cat([rest(opened.get(name, x)) for name, rest in self.rests.items()], 1)


@operation
def merge_branches(model: nn.Module, input_shape: Sequence[int] | None = None) -> nn.Module:
    """Merge the parallel 1x1 convolutions at the head of each block into one, in a copy for inference.

    It computes the same with fewer and larger operations. The copy is in evaluation mode, and has computed the same
    as the model on random images, to 1e-4 of the largest score. Networks without `Branches` are copied as they are.

    Args:
        model: the network; it is not changed.
        input_shape: (C, H, W) of the images; by default the network's own.

    Raises:
        DeployError: the merged network computes something else.

    Examples:
        >>> import cnnzoo
        >>> import torch
        >>> merged = cnnzoo.merge_branches(cnnzoo.create("inception", in_channels=192, seed=0), (192, 28, 28))
        >>> merged(torch.zeros(1, 192, 28, 28)).shape
        torch.Size([1, 256, 28, 28])
    """
    model = inside(model)
    reference = Reference(model, random_images(model, input_shape))
    made = merged(model)
    with torch.inference_mode():
        reference.compare(made(reference.images))
    return made


def merged(model: nn.Module) -> nn.Module:
    """What `merge_branches` returns, unchecked."""
    model = plain(model)
    for name, module in list(model.named_modules()):
        if isinstance(module, Branches) and (joint := _joint(module)) is not None:
            if not name:
                return joint
            model.set_submodule(name, joint)
    return model


def _joint(block: Branches) -> MergedBranches | None:
    """The block with one opening unit, if two or more of its branches open with such units."""
    openings = {name: unit for name, branch in block.named_children() if (unit := _opening(branch))}
    if len(openings) < 2:
        return None
    return MergedBranches(openings, {name: _rest(branch, name in openings) for name, branch in block.named_children()})


def _opening(branch: nn.Module) -> ConvUnit | None:
    """The 1x1 unit that a branch opens with, if it does."""
    first = branch[0] if type(branch) is nn.Sequential else branch
    if not isinstance(first, ConvUnit):
        return None
    conv = first.conv
    plain = conv.kernel_size == conv.stride == (1, 1) and conv.padding == (0, 0)
    return first if plain else None


def _rest(branch: nn.Module, opened: bool) -> nn.Module:
    if not opened:
        return branch
    return branch[1:] if type(branch) is nn.Sequential else nn.Sequential()


def joined(units: Sequence[ConvUnit]) -> ConvUnit:
    """One unit that gives what several on the same maps give, side by side."""
    unit = copy.deepcopy(units[0])
    unit.conv.out_channels = sum(one.conv.out_channels for one in units)
    if isinstance(norm := getattr(unit, "bn", None), nn.BatchNorm2d):
        norm.num_features = unit.conv.out_channels
    # Every parameter and statistic has one entry for each channel, along its first axis; only counters have none.
    for name, value in [*unit.named_parameters(), *unit.named_buffers()]:
        if value.ndim:
            value.data = torch.cat([one.state_dict()[name] for one in units])
    return unit
