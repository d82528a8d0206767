"""The outputs of layers inside a network, by name: `extract`, and `features`, which makes one tensor of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from cnnzoo.cnn import CNN
from cnnzoo.errors import OptionError, operation
from cnnzoo.extraction.recording import Recording, record
from cnnzoo.shapes.trace import check, trace
from cnnzoo.support.torch_private import children_of, share_tensors, tensors_of
from cnnzoo.support.wrappers import inside

Code = tuple[str, dict[str, Any]]
"""The source of a function, and the names in it that are not torch's."""


class _Part(nn.Module):
    """The part of a network that a recording needs: the network's layers and parameters under their names, shared."""

    def __init__(self, model: nn.Module, recording: Recording) -> None:
        super().__init__()
        self.training = model.training
        self.input_shape = getattr(model, "input_shape", None)
        _share(self, model, recording)
        if recording.constants:
            self._constants = nn.Module()
            for name, constant in recording.constants.items():
                self._constants.register_buffer(name, constant, persistent=False)
        self._codes = {True: _code(recording.training), False: _code(recording.evaluation)}
        self._runs = _compiled(self._codes)

    def _outputs(self, input: Tensor) -> dict[str, Tensor]:
        run = self._runs[self.training]
        if torch.compiler.is_compiling():
            return run(self, input)
        try:
            return run(self, input)
        except RuntimeError:
            if isinstance(input, Tensor):  # and not the probe that explains it
                check(self, tuple(input.shape[1:]))
            raise

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_runs"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._runs = _compiled(self._codes)


class Extractor(_Part):
    """A network until some of its layers: images (N, C, H, W) to their outputs by name; `extract` makes it.

    It shares layers and parameters with the network, under the network's names. To train it is to train the network,
    and `train()` and `eval()` switch its layers for both.
    """

    def forward(self, input: Tensor) -> dict[str, Tensor]:
        """Images (N, C, H, W) to the output of each layer by name; a size that does not fit raises `ShapeError`."""
        return self._outputs(input)


class Features(_Part):
    """A network until some of its layers: images (N, C, H, W) to features (N, num_features); `features` makes it.

    It shares layers and parameters with the network, as an `Extractor` does.

    Attributes:
        num_features: numbers for each image.
    """

    def __init__(self, model: nn.Module, recording: Recording, input_shape: Sequence[int]) -> None:
        super().__init__(model, recording)
        self.num_features: int = trace(self, input_shape, "features")[-1].output_shape[0]

    def forward(self, input: Tensor) -> Tensor:
        """Images (N, C, H, W) to features (N, num_features); a size that does not fit raises `ShapeError`."""
        outputs = self._outputs(input).values()
        return torch.cat([out.mean((2, 3)) if out.ndim == 4 else out.flatten(1) for out in outputs], 1)


@operation
def extract(model: nn.Module, *layers: str) -> Extractor:
    """Extract the part of a network that computes the outputs of some layers, and nothing after the last of them.

    The extractor maps images (N, C, H, W) to a dict of outputs, in the order asked for. An output stays what the layer
    returned, also where the next one works in place. Of a layer that runs several times in one pass it is the last.

    Args:
        model: any network; it is not changed.
        layers: names from `named_modules()`, such as `"conv4_2"` or `"conv4_x.5.conv2"`, and shell patterns, which
            match level by level, with `**` for any number of levels: `"conv*_1"`, `"conv4_x.*.conv2"`,
            `"mixed_5b.**.conv"`. A pattern stands for its matches in the order in which they run.

    Raises:
        UnknownNameError: there is no such layer, or none that the pattern matches.
        OptionError: no layer is named, the network does not call it, or a module around it cannot be traced.

    Examples:
        >>> import cnnzoo
        >>> import torch
        >>> extractor = cnnzoo.extract(cnnzoo.create("lenet5", seed=0), "c1", "c3")
        >>> {name: tuple(maps.shape) for name, maps in extractor(torch.zeros(2, 1, 28, 28)).items()}
        {'c1': (2, 6, 28, 28), 'c3': (2, 16, 10, 10)}
    """
    model = inside(model)
    return Extractor(model, record(model, layers))


@operation
def features(model: nn.Module, *layers: str, input_shape: Sequence[int] | None = None) -> Features:
    """Turn a network into a feature extractor: images (N, C, H, W) to one tensor (N, num_features).

    Maps (N, C, H, W) are averaged over the image, everything else is flattened, and several layers are joined in the
    order asked for.

    Args:
        model: any network; it is not changed.
        layers: as `extract` takes them; by default what the classifier sees, as with `num_classes=0`.
        input_shape: (C, H, W) of the images; by default what the network says it is made for.

    Raises:
        UnknownNameError: there is no such layer, or none that the pattern matches.
        OptionError: as for `extract`, or the network tells neither its input shape nor, by a linear layer, what its
            classifier is.

    Examples:
        >>> import cnnzoo
        >>> import torch
        >>> features = cnnzoo.features(cnnzoo.create("resnet18", seed=0))
        >>> features(torch.zeros(2, 3, 224, 224)).shape, features.num_features
        (torch.Size([2, 512]), 512)
    """
    model = inside(model)
    shape = input_shape or getattr(model, "input_shape", None)
    if shape is None:
        raise OptionError(f"{type(model).__name__} does not say what images it is made for; pass input_shape=(C, H, W)")
    if layers:
        return Features(model, record(model, layers), shape)
    layer, at_input = _classifier(model, shape)
    return Features(model, record(model, [layer], at_input=at_input), shape)


def _classifier(model: nn.Module, shape: Sequence[int]) -> tuple[str, bool]:
    """The layer that classifies, and True; or the last one, and False, where there are features only."""
    if isinstance(model, CNN):
        last = list(model.chain())[-1]
        return (model.head[0] if model.head else last, True) if model.num_classes else (last, False)
    linear = trace(model, shape, "features", only=lambda layer: isinstance(layer, nn.Linear))
    if not linear:
        raise OptionError(f"{type(model).__name__} has no linear layer that classifies; name the layers")
    return linear[-1].name, True


def _share(part: nn.Module, model: nn.Module, recording: Recording, path: str = "") -> None:
    """Give `part` what the graphs use of the network, or of the module at `path` in it, under the same names."""
    inside = [name.removeprefix(path) for name in recording.used if name.startswith(path)]
    for name, child in children_of(model).items():  # `named_children` gives a layer with two names once
        place = f"{path}{name}"
        if child is None or not any(use == name or use.startswith(f"{name}.") for use in inside):
            continue
        if place in recording.followed:
            box = nn.Module()
            box.training = child.training
            _share(box, child, recording, f"{place}.")
            child = box
        part.add_module(name, recording.out_of_place.get(place, child))
    if any(use == own for use in inside for _, own, _ in tensors_of(model)):
        share_tensors(part, model)  # not only the tensors of now: `to()` puts new buffers in their place


def _code(graph: fx.Graph) -> Code:
    """A graph as Python."""
    code = graph.python_code("self")
    return code.src, {name: value for name, value in code.globals.items() if name not in _builtins()}


def _builtins() -> dict[str, Any]:
    """The names that are in every graph's code."""
    return fx.Graph().python_code("self").globals


def _compiled(codes: Mapping[bool, Code]) -> dict[bool, Callable[..., Any]]:
    runs = {}
    for training, (source, names) in codes.items():
        space = {**_builtins(), **names}
        exec(compile(source, "<extractor>", "exec"), space)
        runs[training] = space["forward"]
    return runs
