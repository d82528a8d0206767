"""The layer table of a network, for terminals, notebooks and files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from cnnzoo.registry import Config, resolve
from cnnzoo.shapes.trace import LayerShape, is_leaf, nominal_shape, trace
from cnnzoo.support.text import as_text, html_table, rich_table

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = ("layer", "kind", "output", "parameters", "multiply-adds", "receptive field")


@dataclass(frozen=True)
class Summary:
    """The layers of a network with their shapes and counts; prints as a table, in notebooks as HTML.

    Attributes:
        title: the network's name.
        input_shape: (C, H, W).
        layers: leaves in execution order.
        params: numbers in all parameters.
        trainable: those that require a gradient.
        macs: multiply-accumulates for one picture.
    """

    title: str
    input_shape: tuple[int, ...]
    layers: tuple[LayerShape, ...]
    params: int
    trainable: int
    macs: int

    def rows(self) -> Iterator[tuple[str, ...]]:
        """A row of text for each layer, under `COLUMNS`."""
        for layer in self.layers:
            yield (
                layer.name,
                layer.kind,
                "x".join(map(str, layer.output_shape)),
                f"{layer.params:,}" if layer.params else "",
                f"{layer.macs:,}" if layer.macs else "",
                "x".join(map(str, layer.receptive_field.size)),
            )

    @property
    def heading(self) -> str:
        """The network and its input in one line."""
        return f"{self.title} on {'x'.join(map(str, self.input_shape))}"

    @property
    def total(self) -> str:
        """The totals in one line."""
        frozen = f" ({self.trainable:,} trainable)" if self.trainable != self.params else ""
        return f"{self.params:,} parameters{frozen}, {self.macs:,} multiply-adds"

    def __rich__(self) -> "Table":
        right = COLUMNS[2:]
        return rich_table(COLUMNS, self.rows(), right=right, title=self.heading, total=self.total)

    def __str__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return html_table(COLUMNS, self.rows(), f"{self.heading}: {self.total}")


def summary(model: nn.Module | str, input_shape: Sequence[int] | None = None, **options: Any) -> Summary:
    """Show every layer of a network: output shape, parameters, multiply-adds and receptive field.

    Args:
        model: a network, or the name of a registered one.
        input_shape: (C, H, W) of an image; by default what the network is made for.
        **options: arguments of a registered network's constructor, such as `classic=True`.

    Raises:
        ShapeError: a layer cannot take what reaches it.
        OptionError: no input shape was given, and the network does not say one.
        UnknownNameError: no network is registered under that name.

    Example:
        >>> import cnnzoo
        >>> cnnzoo.summary("resnet18").total
        '11,689,512 parameters, 1,814,073,344 multiply-adds'
    """
    model = resolve(model, options, "summary")
    shape = tuple(nominal_shape(model, input_shape, "summary"))
    calls = trace(model, shape, "summary")
    modules = dict(model.named_modules())
    config = getattr(model, "config", None)
    named = isinstance(config, Config)
    return Summary(
        title=config.name + (" (classic)" if config.classic else "") if named else type(model).__name__,
        input_shape=shape,
        layers=tuple(call for call in calls if is_leaf(modules[call.name])),
        params=sum(p.numel() for p in model.parameters()),
        trainable=sum(p.numel() for p in model.parameters() if p.requires_grad),
        macs=calls[-1].macs if calls else 0,
    )
