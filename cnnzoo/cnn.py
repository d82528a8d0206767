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
from cnnzoo.shapes.trace import check, min_input_size
from cnnzoo.support.changes import Snapshot
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
        num_classes: the scores that it gives, those of a last layer that was replaced by hand included.
        checkpoint: what its weights are: on a network that `load_pretrained` returned, or where it was set to a
            `Checkpoint`; otherwise None. Of weights that were trained since it says what they were made from.
    """

    # None only on chains put together by hand, and on random weights. Types that say so would make an error of every
    # `model.config.name` and `model.checkpoint.transforms()`.
    config: "Config" = None  # pyright: ignore[reportAssignmentType]
    _stated: "tuple[Checkpoint, Snapshot] | None" = None
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

    @property
    def num_classes(self) -> int:
        if self.head is None:
            return self._scores
        try:
            closing = self.get_submodule(self.head[0])
        except AttributeError:
            return 0
        outputs = [layer.out_features for layer in closing.modules() if isinstance(layer, nn.Linear)]
        return outputs[-1] if outputs else self._scores

    @num_classes.setter
    def num_classes(self, value: int) -> None:
        self._scores = value

    @property
    def checkpoint(self) -> "Checkpoint":
        if self._stated is None:
            return None  # pyright: ignore[reportReturnType]
        said, then = self._stated
        return said if then.is_of(self) else said.as_origin(self.config.name if self.config else "")

    @checkpoint.setter
    def checkpoint(self, value: "Checkpoint | None") -> None:
        self._stated = None if value is None else (value, Snapshot(self))

    def forward(self, input: Tensor) -> Tensor:
        """Images (N, C, H, W) to the output of the last layer; a size that does not fit raises `ShapeError`."""
        if torch.compiler.is_compiling():
            return super().forward(input)
        if self.input_shape is not None and not _may_be_images(input):
            self._check_images(input)
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
        stated = self.checkpoint
        self.num_classes = num_classes
        if stated is not None:
            self.checkpoint = stated.as_origin(self.config.name if self.config else "")
        if self.config is not None:
            known = {"num_classes": num_classes, **options}.items()
            changed = {key: value for key, value in known if key in self.config.options}
            self.config = replace(self.config, options=self.config.options | changed)

    def _check_images(self, x: Any) -> None:
        """Raise unless this may be images: without a batch, some layers would take the channels for it."""
        name = type(self).__name__
        if isinstance(x, ShapeProbe):  # it explains itself
            return
        if isinstance(x, Tensor) and x.ndim != 4:
            one = " (a single image is `x.unsqueeze(0)`)" if x.ndim == 3 else ""
            raise ShapeError(f"{name}: got an input of shape {tuple(x.shape)}; it takes images (N, C, H, W){one}")
        if not isinstance(x, Tensor) and type(x).__module__.partition(".")[0] in ("numpy", "PIL", "builtins"):
            raise OptionError(
                f"{name}: got {type(x).__name__}; it takes a tensor of images (N, C, H, W), such as "
                "model.checkpoint.transforms() makes of a PIL image"
            )
        like = next((p for p in self.parameters() if p.is_floating_point()), None)
        if isinstance(x, Tensor) and like is not None and not x.is_floating_point():
            raise OptionError(
                f"{name}: got images of {x.dtype}; its parameters are of {like.dtype}: images from 0 to 255 become an "
                "input by the transforms of the weights, model.checkpoint.transforms()"
            )

    def _explain(self, x: Tensor) -> None:
        """Raise a `ShapeError` that says which layer cannot take this input, if it is a matter of shapes."""
        if isinstance(x, ShapeProbe):  # it explains itself
            return
        self._check_images(x)
        check(self, tuple(x.shape[1:]))


def _may_be_images(x: Any) -> bool:
    """Whether there is nothing to look at more closely, which every forward asks."""
    return isinstance(x, Tensor) and x.ndim == 4 and x.is_floating_point()


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
        self._check_images(input)
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
        except ShapeError:
            channels, *size = input.shape[1:]
            layers = list(self.chain().items())
            end = [layer for layer, _ in layers].index(name) + 1
            smallest = min_input_size(nn.Sequential(*(layer for _, layer in layers[:end]), self.aux[name]))
            sides = smallest if isinstance(smallest, tuple) else (smallest, smallest)
            raise ShapeError(
                f"{type(self).__name__}: input {channels}x{'x'.join(map(str, size))}: the auxiliary classifier behind "
                f"{name} gets maps of {'x'.join(map(str, maps.shape[1:]))}, which it cannot take; the network is made "
                f"for {'x'.join(map(str, self.input_shape or ()))}, and the smallest images that it works with are "
                f"{'x'.join(map(str, sides))}"
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
