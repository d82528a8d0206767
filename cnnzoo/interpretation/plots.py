"""Plots of what a network sees, by matplotlib, which is an optional dependency."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnzoo.errors import OptionError, ShapeError, operation
from cnnzoo.interpretation.layers import filters, maps, patch
from cnnzoo.interpretation.running import check_images
from cnnzoo.shapes.trace import LayerShape, trace
from cnnzoo.support.files import write_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf")
MOST = 64
"""Maps of a layer, and patches of an image, that are drawn at most."""


class Plot:
    """A plot that notebooks show.

    Attributes:
        figure: matplotlib's, to be changed at will.
    """

    def __init__(self, figure: "Figure") -> None:
        self.figure = figure

    def _repr_png_(self) -> bytes:
        return self._drawn("png")

    def __repr__(self) -> str:
        return "Plot; notebooks show it, and plot.save('plot.png') writes it"

    def _drawn(self, form: str) -> bytes:
        content = io.BytesIO()
        self.figure.savefig(content, format=form, dpi=150)
        return content.getvalue()

    @operation
    def save(self, path: str | Path) -> Path:
        """Write the plot to a `.png`, `.svg` or `.pdf` file.

        Raises:
            OptionError: the path has another ending, or cannot be written.
        """
        return write_figure(Path(path), FORMATS, "plots", lambda form: self._drawn(form[1:]))


@operation
def plot_filters(model: nn.Module, layer: str | None = None) -> Plot:
    """Plot the filters of a convolution as a grid of images, by default of the first.

    Filters on three channels are shown in colour, on one in grey; of others, each row is a filter and each column a
    channel. Colours run from the least to the greatest weight of each filter.

    Args:
        model: any network.
        layer: a convolution, as in `named_modules()`.

    Raises:
        UnknownNameError: there is no such layer.
        OptionError: the layer is no convolution, or matplotlib is not installed.

    Examples:
        >>> import cnnzoo
        >>> cnnzoo.interpretation.plot_filters(cnnzoo.load_pretrained("lenet5")).save("filters.png").name
        'filters.png'
    """
    figure = _figure()
    weights = filters(model, layer).float().cpu()
    colour = weights.shape[1] in (1, 3)
    shown = list(_unit(weights)) if colour else [_unit(one)[None] for kernel in weights[:16] for one in kernel[:16]]
    columns = math.ceil(math.sqrt(len(shown))) if colour else min(16, weights.shape[1])
    _grid(figure, [_image(one) for one in shown], columns)
    return Plot(figure)


@operation
def plot_maps(model: nn.Module, images: Tensor, *layers: str) -> Plot:
    """Plot the maps of layers for an image, a block of rows for each layer, each map scaled to its own range.

    Args:
        model: any network.
        images: (1, C, H, W), as the network takes it; of several images, the first is drawn.
        *layers: names and patterns, as `cnnzoo.extract` takes them.

    Raises:
        UnknownNameError: there is no such layer.
        OptionError: a layer gives no maps, or matplotlib is not installed.
        ShapeError: the image does not fit the network.

    Examples:
        >>> import cnnzoo
        >>> import torch
        >>> model = cnnzoo.load_pretrained("lenet5")
        >>> plot = cnnzoo.interpretation.plot_maps(model, torch.zeros(1, 1, 28, 28), "c1", "c3")
        >>> plot.save("maps.png").name
        'maps.png'
    """
    figure = _figure()
    found = maps(model, images[:1], *layers)
    for name, one in found.items():
        if one.ndim != 4:
            raise OptionError(f"layer {name} gives {tuple(one.shape)}; only maps (N, C, H, W) can be drawn")
    columns = 8
    heights = [math.ceil(min(one.shape[1], MOST) / columns) for one in found.values()]
    figure.set_size_inches(7, 0.35 + 0.88 * sum(heights) + 0.3 * len(heights))
    parts = figure.subfigures(len(found), 1, height_ratios=[0.3 + height for height in heights], squeeze=False)
    for part, (name, one) in zip(parts[:, 0], found.items(), strict=True):
        count = one.shape[1]
        of = f", {MOST} of them" if count > MOST else ""
        part.suptitle(f"{name}: {count} of {one.shape[2]}×{one.shape[3]}{of}", fontsize=9, x=0.01, ha="left")
        _grid(part, [_unit(each).cpu() for each in one[0, :MOST].float()], columns, resize=False)
    return Plot(figure)


@operation
def plot_patches(model: nn.Module, image: Tensor, *layers: str) -> Plot:
    """Plot, for each layer, the part of an image that the unit in the middle of its maps sees.

    Args:
        model: the network.
        image: (C, H, W) or (1, C, H, W).
        *layers: names from `named_modules()`; by default every convolution and pooling.

    Raises:
        UnknownNameError: no layer of that name runs.
        OptionError: matplotlib is not installed.
        ShapeError: the image does not fit the network.

    Examples:
        >>> import cnnzoo
        >>> import torch
        >>> model = cnnzoo.load_pretrained("lenet5")
        >>> cnnzoo.interpretation.plot_patches(model, torch.zeros(1, 28, 28), "c3").save("patches.png").name
        'patches.png'
    """
    figure = _figure()
    image = image[0] if image.ndim == 4 else image
    check_images(model, image.unsqueeze(0))
    shape = tuple(image.shape)
    calls = trace(model, shape, "plot_patches")
    names = list(layers) or [call.name for call in calls if _windowed(model, call)][:MOST]
    shown = [("image", (0, 0, *shape[1:]))] + [(name, patch(model, name, input_shape=shape)) for name in names]
    columns = min(len(shown), 8)
    rows = math.ceil(len(shown) / columns)
    figure.set_size_inches(1.2 * columns, 1.4 * rows)
    axes = figure.subplots(rows, columns, squeeze=False)
    from matplotlib.patches import Rectangle

    base = _image(_unit(image.detach().float().cpu()))
    for place in axes.flat:
        place.axis("off")
    for place, (name, (top, left, bottom, right)) in zip(axes.flat, shown, strict=False):
        place.imshow(base, cmap="gray", vmin=0, vmax=1)
        place.set_title(name if name == "image" else f"{name}\n{bottom - top}×{right - left}", fontsize=7)
        place.set_xlim(-0.5, shape[2] - 0.5)
        place.set_ylim(shape[1] - 0.5, -0.5)
        if name != "image":
            place.add_patch(
                Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, edgecolor="tab:red", lw=1.5)
            )
    return Plot(figure)


@operation
def plot_heat(images: Tensor, heat: Tensor, titles: Sequence[str] = ()) -> Plot:
    """Plot images with what `grad_cam`, `class_activation_map`, `saliency` or `occlusion` found laid over them.

    Args:
        images: (N, C, H, W).
        heat: (N, h, w), brought to the size of the images; or (N, C, H, W), of which the largest absolute value of the
            channels is drawn.
        titles: one for each image.

    Raises:
        ShapeError: the heat is not that of the images.
        OptionError: matplotlib is not installed.

    Examples:
        >>> import cnnzoo
        >>> import torch
        >>> model, images = cnnzoo.load_pretrained("lenet5"), torch.zeros(1, 1, 28, 28)
        >>> plot = cnnzoo.interpretation.plot_heat(images, cnnzoo.interpretation.grad_cam(model, images))
        >>> plot.save("heat.png").name
        'heat.png'
    """
    figure = _figure()
    if images.ndim != 4 or heat.ndim not in (3, 4) or len(images) != len(heat):
        raise ShapeError(
            f"got images {tuple(images.shape)} and heat {tuple(heat.shape)}; expected (N, C, H, W) and (N, h, w)"
        )
    gradient = heat.ndim == 4
    heat = heat.detach().float().cpu().abs().amax(1) if gradient else heat.detach().float().cpu()
    heat = F.interpolate(heat.unsqueeze(1), images.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    signed = bool((heat < 0).any())
    figure.set_size_inches(2.1 * 2, 2.2 * len(images))
    axes = figure.subplots(len(images), 2, squeeze=False)
    for row, (image, one) in enumerate(zip(images.detach().float().cpu(), heat, strict=True)):
        base = _image(_unit(image))
        most = max(float(one.abs().max()), 1e-12)
        for place in axes[row]:
            place.axis("off")
            place.imshow(base, cmap="gray", vmin=0, vmax=1)
        if gradient:
            axes[row][1].imshow(one.numpy(), cmap="magma", vmin=0, vmax=most)
        elif signed:
            axes[row][1].imshow(one.numpy(), cmap="RdBu_r", alpha=0.6, vmin=-most, vmax=most)
        else:
            axes[row][1].imshow(one.numpy(), cmap="inferno", alpha=0.6, vmin=0, vmax=most)
        if titles:
            axes[row][0].set_title(titles[row], fontsize=9, loc="left")
    return Plot(figure)


def _figure() -> "Figure":
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise OptionError('plots need matplotlib, which is not installed: pip install "cnnzoo[plot]"') from None
    return Figure(layout="constrained")


def _windowed(model: nn.Module, call: LayerShape) -> bool:
    spatial = len(call.output_shape) == 3 and max(call.output_shape[1:]) > 1
    return spatial and hasattr(model.get_submodule(call.name), "kernel_size")


def _unit(values: Tensor) -> Tensor:
    """From 0, the least of each image (C, H, W), to 1, the greatest; one of (H, W) likewise."""
    axes = tuple(range(values.ndim - 3 if values.ndim > 3 else 0, values.ndim))
    axes = axes[-3:]
    low, high = values.amin(axes, keepdim=True), values.amax(axes, keepdim=True)
    return (values - low) / (high - low).clamp_min(1e-12)


def _image(image: Tensor) -> Any:
    """(C, H, W) as matplotlib draws it: in colour if it has three channels, else in grey."""
    if image.ndim == 2:
        return image.numpy()
    return image.permute(1, 2, 0).numpy() if len(image) == 3 else image.mean(0).numpy()


def _grid(figure: Any, images: Sequence[Any], columns: int, *, resize: bool = True) -> None:
    """Images in rows, pixels sharp."""
    rows = math.ceil(len(images) / columns)
    if resize:
        figure.set_size_inches(0.6 * columns, 0.6 * rows)
    axes = figure.subplots(rows, columns, squeeze=False)
    for place in axes.flat:
        place.axis("off")
    for place, image in zip(axes.flat, images, strict=False):
        content = image.numpy() if isinstance(image, torch.Tensor) else image
        place.imshow(content, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
