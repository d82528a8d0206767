"""The layer table of a network, for terminals, notebooks and files."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from cnnzoo.errors import operation
from cnnzoo.registry import Config, resolve
from cnnzoo.shapes.probe import Trace, shown
from cnnzoo.shapes.trace import Inputs, LayerShape, Spec, calls, rows, unwrapped
from cnnzoo.support.text import as_text, html_table, rich_table

if TYPE_CHECKING:
    from cnnzoo.support.text import Table

COLUMNS = ("layer", "kind", "output", "parameters", "multiply-adds", "receptive field")


@dataclass(frozen=True, repr=False)
class Summary:
    """The layers of a network with their shapes and counts; prints as a table, in notebooks as HTML.

    Attributes:
        title: the network's name.
        input_shape: (C, H, W).
        layers: as `infer_shapes` gives them; their parameters and multiply-adds add up to the totals.
        params: numbers in all parameters.
        trainable: those that require a gradient.
        macs: multiply-adds of weights for one image.
        products: multiply-adds of results with results for one image: the products of attention.
        further_inputs: shapes of further inputs.
    """

    title: str
    input_shape: tuple[int, ...]
    layers: tuple[LayerShape, ...]
    params: int
    trainable: int
    macs: int
    products: int = 0
    further_inputs: tuple[tuple[int, ...], ...] = ()

    def rows(self) -> Iterator[tuple[str, ...]]:
        """A row of text for each layer, under `COLUMNS`."""
        for layer in self.layers:
            yield (
                layer.name,
                layer.kind,
                shown((1, *layer.output_shape)) if layer.ran else "not run",
                f"{layer.params:,}" if layer.params else "",
                " + ".join(f"{count:,}" for count in (layer.macs, layer.products) if count),
                str(layer.receptive_field) if layer.ran else "",
            )

    @property
    def heading(self) -> str:
        """The network and its input in one line."""
        inputs = " and ".join(shown((1, *shape)) for shape in (self.input_shape, *self.further_inputs))
        return f"{self.title} on {inputs}"

    @property
    def total(self) -> str:
        """The totals in one line."""
        frozen = f" ({self.trainable:,} trainable)" if self.trainable != self.params else ""
        products = f" + {self.products:,} in the products of attention" if self.products else ""
        return f"{self.params:,} parameters{frozen}, {self.macs:,} multiply-adds{products}"

    def __rich__(self) -> "Table":
        right = COLUMNS[2:]
        return rich_table(COLUMNS, self.rows(), right=right, title=self.heading, total=self.total)

    def __repr__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return html_table(COLUMNS, self.rows(), f"{self.heading}: {self.total}")


@operation
def summary(
    model: nn.Module | str,
    input_shape: Spec | None = None,
    *more: Spec,
    input_shapes: Mapping[str, Spec] | None = None,
    dtype: torch.dtype | None = None,
    **options: Any,
) -> Summary:
    """Show every layer of a network: output shape, parameters, multiply-adds and receptive field.

    Args:
        model: a network, or the name of a registered one.
        input_shape: (C, H, W) of an image, or whatever `infer_shapes` takes; by default what the network is made for.
        *more: of further inputs, in order.
        input_shapes: of inputs by the name of the argument.
        dtype: of the inputs; by default the network's own.
        **options: arguments of a registered network's constructor, such as `classic=True`.

    Raises:
        ShapeError: a layer cannot take what reaches it.
        OptionError: no input shape was given, and the network does not say one; or its forward asks for values.
        UnknownNameError: no network is registered under that name.

    Examples:
        >>> import cnnzoo
        >>> cnnzoo.summary("resnet18").total
        '11,689,512 parameters, 1,814,073,344 multiply-adds'
    """
    model = unwrapped(resolve(model, options))
    inputs = Inputs.of(model, "summary", input_shape, more, input_shapes, dtype)
    run = Trace("summary")
    layers = rows(model, calls(model, inputs, run), run)
    config = getattr(model, "config", None)
    named = isinstance(config, Config)
    shape, *further = inputs.shapes
    return Summary(
        title=config.name + (" (classic)" if config.classic else "") if named else type(model).__name__,
        input_shape=shape,
        layers=tuple(layers),
        params=sum(p.numel() for p in model.parameters()),
        trainable=sum(p.numel() for p in model.parameters() if p.requires_grad),
        macs=run.macs,
        products=run.products,
        further_inputs=tuple(further),
    )
