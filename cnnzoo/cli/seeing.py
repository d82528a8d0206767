"""What a network sees."""

from pathlib import Path
from typing import Any

import click

from cnnzoo.cli.options import SOURCE, TAG, classic_option, hub_option
from cnnzoo.errors import OptionError, unknown

WHAT = ("filters", "maps", "patches", "grad-cam", "cam", "saliency", "guided", "occlusion")


@click.command()
@click.argument("what", type=click.Choice(WHAT))
@click.argument("image", required=False, type=click.Path(path_type=Path))
@click.option("--model", "name", type=SOURCE, default="lenet5", show_default=True, help="A network with weights.")
@click.option("--checkpoint", type=TAG, help="The tag of its weights, or a file, folder or repository.")
@click.option("--layer", "layers", multiple=True, help="The layer or layers to look at; may be repeated.")
@click.option("--target", help="The class, by name or number; by default the one with the highest score.")
@click.option("--out", default="seen.png", show_default=True, type=click.Path(path_type=Path), help="The file written.")
@click.option("--invert", is_flag=True, help="Swap black and white, for dark things on a light ground.")
@hub_option
@classic_option
def see(
    what: str,
    image: Path | None,
    name: str,
    checkpoint: str | None,
    layers: tuple[str, ...],
    target: str | None,
    out: Path,
    invert: bool,
    hub: bool,
    classic: bool,
) -> None:
    """Show WHAT a network sees, most of it of an IMAGE.

    \b
    filters    the filters of a convolution, by default the first
    maps       what layers make of the image
    patches    the part of the image that a unit of each layer sees
    grad-cam   where a layer finds evidence for a class
    cam        the same exactly, of networks that end in average pooling
    saliency   how the score changes with each pixel
    guided     the same with guided backpropagation
    occlusion  how the score falls when a part is hidden
    """  # noqa: D301  click reads the escape
    from cnnzoo import interpretation
    from cnnzoo.data.image_files import open_image
    from cnnzoo.registry import ModelName
    from cnnzoo.zoo import load_pretrained

    if what != "filters" and image is None:
        raise OptionError(f"see {what}: name an image file: cnnzoo see {what} IMAGE")
    if what == "maps" and not layers:
        raise OptionError("see maps: name layers by --layer, such as --layer 'conv*'; cnnzoo shapes lists them")
    opened = open_image(image) if image is not None else None
    options: dict[str, Any] = {"classic": True} if classic else {}
    model: Any = load_pretrained(ModelName(name), checkpoint=checkpoint, hub=hub, **options)
    layer = layers[0] if layers else None
    if opened is None or what == "filters":
        plot = interpretation.plot_filters(model, layer)
    else:
        images = _prepared(model, opened, invert)
        if what == "maps":
            plot = interpretation.plot_maps(model, images, *layers)
        elif what == "patches":
            plot = interpretation.plot_patches(model, images, *layers)
        else:
            chosen = _class(model, target)
            heat = _heat(what, model, images, chosen, layer)
            plot = interpretation.plot_heat(images, heat, [_said(model, images, chosen)])
    click.echo(f"wrote {plot.save(out)}")


def _prepared(model: Any, opened: Any, invert: bool) -> Any:
    """The image as the network's weights want it, (1, C, H, W)."""
    from PIL import ImageOps

    if model.checkpoint is None:
        raise OptionError("a weights file alone does not say how to prepare images; use a checkpoint's tag")
    opened = ImageOps.invert(opened.convert("RGB")) if invert else opened
    return model.checkpoint.transforms()(opened).unsqueeze(0)


def _class(model: Any, target: str | None) -> int | None:
    """The class by its name, or by its number where none is called so."""
    if target is None:
        return None
    classes = list(model.checkpoint.classes)
    names = {one.lower(): index for index, one in enumerate(classes)}
    if target.lower() in names:
        return names[target.lower()]
    if not target.isdigit():
        raise unknown("", "class", target, classes)
    return int(target)


def _heat(what: str, model: Any, images: Any, target: int | None, layer: str | None) -> Any:
    from cnnzoo import interpretation

    if what == "grad-cam":
        return interpretation.grad_cam(model, images, target, layer=layer)
    if what == "cam":
        return interpretation.class_activation_map(model, images, target)
    if what == "occlusion":
        return interpretation.occlusion(model, images, target)
    return interpretation.saliency(model, images, target, guided=what == "guided")


def _said(model: Any, images: Any, target: int | None) -> str:
    """The class that is looked at, and its score."""
    import torch

    with torch.inference_mode():
        scores = model(images)[0]
    index = int(scores.argmax()) if target is None else target
    classes = model.checkpoint.classes
    name = classes[index] if index < len(classes) else f"class {index}"
    return f"{name}: {scores[index]:.2f}"
