"""What a network gives: one tensor, or several in tuples, lists and dicts, which are taken apart and put together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cnnzoo.errors import DeployError
from cnnzoo.support.torch_private import tree_flatten, tree_paths, tree_unflatten

Scores = Tensor | tuple[Tensor, ...]
"""What a network gives, in the form that everything here passes on: one tensor, or those of it in their order."""


@dataclass(frozen=True)
class Structure:
    """How the tensors of an output belong together.

    Attributes:
        names: of the tensors: `scores` where there is one alone; else the keys of dicts, the fields of named tuples
            and the places in others, one in the other joined by dots; `output_0` where it begins with a place.
        kept: what is no tensor, by its place among the leaves.
        spec: torch's description of the rest.
    """

    names: tuple[str, ...]
    kept: dict[int, Any]
    spec: Any

    @classmethod
    def of(cls, output: Any) -> "Structure":
        """That of an output.

        Raises:
            DeployError: it holds no tensor.
        """
        leaves, spec = tree_flatten(output)
        names = [name for name, leaf in zip(tree_paths(output), leaves, strict=True) if isinstance(leaf, Tensor)]
        if not names:
            raise DeployError(
                f"the network gives {type(output).__name__}, which holds no tensors; wrap it in a module that gives "
                "tensors, or a tuple or dict of them"
            )
        named = ["scores"] if isinstance(output, Tensor) else [_as_name(path) for path in names]
        kept = {place: leaf for place, leaf in enumerate(leaves) if not isinstance(leaf, Tensor)}
        return cls(tuple(named), kept, spec)

    @property
    def is_one(self) -> bool:
        """Whether the output is a tensor, and nothing around it."""
        return self.names == ("scores",) and not self.kept and self.spec.is_leaf()

    def together(self, scores: Scores) -> Any:
        """The output that these are the tensors of."""
        if self.is_one:
            return scores
        tensors = iter(each(scores))
        count = len(self.names) + len(self.kept)
        return tree_unflatten([self.kept[i] if i in self.kept else next(tensors) for i in range(count)], self.spec)


def _as_name(path: Sequence[Any]) -> str:
    name = ".".join(map(str, path))
    return f"output_{name}" if isinstance(path[0], int) else name


def apart(output: Any) -> Scores:
    """The tensors of an output; a tensor as it is."""
    if isinstance(output, Tensor):
        return output
    return tuple(leaf for leaf in tree_flatten(output)[0] if isinstance(leaf, Tensor))


def each(scores: Scores) -> tuple[Tensor, ...]:
    """All tensors in a row."""
    return (scores,) if isinstance(scores, Tensor) else scores


def mapped(change: Callable[[Tensor], Tensor], scores: Scores) -> Scores:
    """Every tensor changed."""
    return change(scores) if isinstance(scores, Tensor) else tuple(map(change, scores))


def joined(parts: Sequence[Scores]) -> Scores:
    """The scores of several batches as those of one."""
    if isinstance(parts[0], Tensor):
        return torch.cat([each(part)[0] for part in parts])
    return tuple(map(torch.cat, zip(*map(each, parts), strict=True)))


class Apart(nn.Module):
    """A network that gives its tensors in a row, for what takes no dicts."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Scores:
        return apart(self.model(images))
