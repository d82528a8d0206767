"""The one idea of the library: a network is a chain of named layers."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import torch
from torch import Tensor, nn

from cnnzoo.errors import OptionError, ShapeError, operation
from cnnzoo.initialization import Scheme, initialize
from cnnzoo.nn.layers import Linear
from cnnzoo.shapes.probe import ShapeProbe
from cnnzoo.shapes.trace import check
from cnnzoo.support.torch_private import children_of

if TYPE_CHECKING:
    from cnnzoo.checkpoints.table import Checkpoint
    from cnnzoo.registry import Config


class Chained(TypedDict, total=False):
    """The arguments of `CNN` besides its layers."""

    input_shape: tuple[int, int, int] | None
    head: tuple[str, int] | None
    num_classes: int
    init: str | Scheme


class CNN(nn.Sequential):
    """A chain of layers under the names their paper gives them: images (N, C, H, W) to scores (N, num_classes).

    `model.conv4_2` is conv4_2, and a slice such as `model[:3]` is the chain of those layers, sharing their weights.

    Args:
        layers: the layers by name, in the order in which they run.
        input_shape: (C, H, W) of the images it is made for.
        head: name (dotted where it closes a part) and input features of the linear layer that closes the chain.
        num_classes: outputs of that layer; 0 leaves it out, and the network ends at its features.
        init: the scheme that initialises it, or the name of one in `cnnzoo.initialization`.

    Attributes:
        config: the constructor's name and every argument, or None on a chain put together by hand.
        checkpoint: what its weights are, on a network that `load_pretrained` returned; otherwise None.
    """

    # None only on chains put together by hand, and on random weights. Types that say so would make an error of every
    # `model.config.name` and `model.checkpoint.transforms()`.
    config: "Config" = None  # pyright: ignore[reportAssignmentType]
    checkpoint: "Checkpoint" = None  # pyright: ignore[reportAssignmentType]
    if TYPE_CHECKING:  # for torch a layer is `Tensor | Module`, so that `model.c3.weight` would be an error

        def __getattr__(self, name: str) -> Any: ...

    def __init__(
        self,
        layers: Mapping[str, nn.Module] | Iterable[tuple[str, nn.Module]],
        *,
        input_shape: tuple[int, int, int] | None = None,
        head: tuple[str, int] | None = None,
        num_classes: int = 0,
        init: str | Scheme = "torch_default",
    ) -> None:
        super().__init__()
        for name, layer in dict(layers).items():
            self.add_module(name, layer)
        self.input_shape = input_shape
        self.init = init
        if num_classes < 0:
            raise OptionError(f"{type(self).__name__}: got num_classes={num_classes}; it is 0 (features) or more")
        self.head = head
        self.num_classes = num_classes
        if head and num_classes:
            self.set_submodule(head[0], Linear(head[1], num_classes))

    def forward(self, input: Tensor) -> Tensor:
        """Images (N, C, H, W) to the output of the last layer; a size that does not fit raises `ShapeError`."""
        if torch.compiler.is_compiling():
            return super().forward(input)
        out = input
        try:
            for layer in self:
                out = layer(out)
        except RuntimeError:
            self._explain(input)
            raise
        return out

    def __getitem__(self, idx: slice | int) -> Any:
        if isinstance(idx, slice):
            return CNN(list(self.chain().items())[idx], input_shape=None if idx.start else self.input_shape)
        return super().__getitem__(idx)

    def chain(self) -> dict[str, nn.Module]:
        """The layers by name, in the order in which they run."""
        return {name: layer for name, layer in children_of(self).items() if layer is not None}

    @operation
    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last layer by a fresh one for `num_classes` classes; 0 removes it.

        The new layer is initialised by the network's own scheme, on the device and in the dtype of the rest.

        Raises:
            OptionError: the network does not close with a linear layer.
        """
        if self.head is None:
            raise OptionError(f"{type(self).__name__} does not end in a linear layer that could be replaced")
        name, features = self.head
        part, _, last = name.rpartition(".")
        layers = children_of(self.get_submodule(part))
        like = next(self.parameters())
        layers.pop(last, None)
        if num_classes:
            fresh = Linear(features, num_classes, device=like.device, dtype=like.dtype)
            layers[last] = initialize(fresh, self.init)
        self._is_now(num_classes=num_classes)

    def _is_now(self, *, num_classes: int, **options: Any) -> None:
        """Keep what the network says of itself true after its last layer was replaced."""
        self.num_classes = num_classes
        vars(self).pop("checkpoint", None)
        if self.config is not None:
            known = {"num_classes": num_classes, **options}.items()
            changed = {key: value for key, value in known if key in self.config.options}
            self.config = replace(self.config, options=self.config.options | changed)

    def _explain(self, x: Tensor) -> None:
        """Raise a `ShapeError` that says which layer cannot take this input, if it is a matter of shapes."""
        if isinstance(x, ShapeProbe):  # it explains itself
            return
        if x.ndim != 4:
            one = " (a single image is `x.unsqueeze(0)`)" if x.ndim == 3 else ""
            raise ShapeError(
                f"{type(self).__name__}: got an input of shape {tuple(x.shape)}; it takes images (N, C, H, W){one}"
            ) from None
        check(self, tuple(x.shape[1:]))


class Auxiliary(nn.ModuleDict):
    """Auxiliary classifiers by the name of the layer that they stand behind.

    As a layer it does nothing, since to whoever runs the children of a chain, as
    `torch.utils.checkpoint.checkpoint_sequential` does, it is one of them.
    """

    def forward(self, input: Tensor) -> Tensor:
        """The input."""
        return input


class AuxiliaryCNN(CNN):
    """A chain with auxiliary classifiers behind some of its layers, which only training needs.

    They are no part of the chain: `forward` gives the scores alone, `forward_with_aux` those of every classifier, as
    does the `forward` of `AuxiliaryScores`. A network without them has no child `aux`.

    Args:
        layers: the layers by name, in the order in which they run.
        aux: classifiers by the name of the layer that they stand behind; they share `num_classes`.
        **rest: as `CNN` takes them.
    """

    aux: nn.ModuleDict

    def __init__(
        self, layers: Mapping[str, nn.Module], *, aux: Mapping[str, CNN] | None = None, **rest: Unpack[Chained]
    ) -> None:
        super().__init__(layers, **rest)
        if aux and not self.num_classes:
            raise OptionError(
                f"{type(self).__name__}: aux=True needs classes to tell apart, got num_classes=0; leave out one of them"
            )
        self._set_aux(aux or {})

    def _set_aux(self, classifiers: Mapping[str, CNN]) -> None:
        children_of(self).pop("aux", None)
        vars(self).pop("aux", None)
        if classifiers:
            self.aux = Auxiliary(classifiers)
        else:  # no child: whoever takes the last child for the classifier is right
            vars(self)["aux"] = Auxiliary()

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self.chain().values())

    def __len__(self) -> int:
        return len(self.chain())

    def chain(self) -> dict[str, nn.Module]:
        """The layers by name, in the order in which they run; the auxiliary classifiers are none of them."""
        return {name: layer for name, layer in super().chain().items() if name != "aux"}

    def forward_with_aux(self, input: Tensor) -> tuple[Tensor, ...]:
        """Images (N, C, H, W) to the scores (N, num_classes) of the network and of each auxiliary classifier.

        The first is the network's; the others follow in the order of their layers.

        Raises:
            OptionError: the network was built without auxiliary classifiers.
            ShapeError: a layer cannot take images of this size.
        """
        if not self.aux:
            raise OptionError(
                f"forward_with_aux: this {type(self).__name__} has no auxiliary classifiers; build it with aux=True"
            )
        out, scores = input, []
        try:
            for name, layer in self.chain().items():
                out = layer(out)
                if name in self.aux:
                    scores.append(self._classify(name, out, input))
        except RuntimeError:
            self._explain(input)
            raise
        return out, *scores

    def _classify(self, name: str, maps: Tensor, input: Tensor) -> Tensor:
        try:
            return self.aux[name](maps)
        except ShapeError as error:
            raise ShapeError(
                f"{type(self).__name__}: input {'x'.join(map(str, input.shape[1:]))}: the auxiliary classifier behind "
                f"{name}: {error} The network is made for {'x'.join(map(str, self.input_shape or ()))}."
            ) from None

    @operation
    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last layer, and those of the auxiliary classifiers, by fresh ones; 0 removes them."""
        super().reset_classifier(num_classes)
        for classifier in self.aux.values():
            assert isinstance(classifier, CNN)
            classifier.reset_classifier(num_classes)
        if not num_classes:
            self._set_aux({})
            self._is_now(num_classes=0, aux=False)


class AuxiliaryScores(nn.Module):
    """Images to the scores of a network and of each auxiliary classifier, by `forward`.

    `DistributedDataParallel`, `DataParallel` and `torch.compile` take hold of a module's `forward`, and of nothing else
    that it can do: gradients of what `forward_with_aux` computes past them are those of one process.

    Args:
        network: built with `aux=True`; its layers and parameters are shared.

    Raises:
        OptionError: the network has no auxiliary classifiers.

    Examples:
        >>> import cnnzoo, torch
        >>> module = cnnzoo.AuxiliaryScores(cnnzoo.googlenet(aux=True, num_classes=10))
        >>> [tuple(scores.shape) for scores in module(torch.zeros(1, 3, 224, 224))]
        [(1, 10), (1, 10), (1, 10)]
    """

    def __init__(self, network: AuxiliaryCNN) -> None:
        super().__init__()
        if not isinstance(network, AuxiliaryCNN) or not network.aux:
            raise OptionError(
                f"AuxiliaryScores: this {type(network).__name__} has no auxiliary classifiers; build it with aux=True"
            )
        self.network = network

    def forward(self, input: Tensor) -> tuple[Tensor, ...]:
        """Images (N, C, H, W) to scores (N, num_classes): the network's first, then in the order of the layers."""
        return self.network.forward_with_aux(input)
