"""Classify images and compute features."""

import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cnnzoo.cli.options import (
    RECIPE,
    SOURCE,
    TAG,
    classic_option,
    goes_on,
    hub_option,
    json_option,
    load,
    running_options,
    settings_of,
    transforms_option,
    weights_key_option,
    zero_channels_option,
)
from cnnzoo.cli.output import print_json, print_table
from cnnzoo.errors import DataError

if TYPE_CHECKING:
    from cnnzoo.data.preprocessing import Preprocessing


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, allow_dash=True))
@click.option("--model", "name", type=SOURCE, help="A network with weights; by default lenet5, which reads digits.")
@click.option("--checkpoint", type=TAG, help="The tag of its weights, or a file, folder or repository.")
@click.option("--top", default=5, show_default=True, type=click.IntRange(min=1), help="How many classes to show.")
@hub_option
@click.option("--invert", is_flag=True, help="Swap black and white; handwritten digits need no such help.")
@classic_option
@click.option(
    "--recipe",
    type=RECIPE,
    help="Take network, preparation and classes from a training recipe, for weights of your own.",
)
@transforms_option
@click.option(
    "--preprocessing",
    "prepared",
    multiple=True,
    metavar="KEY=VALUE",
    help="How the network wants its images, such as size=32; may be repeated.",
)
@click.option("--classes", help="Names of the classes: a list of cnnzoo's such as cifar10, a file, or A,B,C.")
@zero_channels_option
@weights_key_option
@running_options
@json_option
@click.pass_context
def predict(
    context: click.Context,
    files: tuple[Path, ...],
    name: str | None,
    checkpoint: str | None,
    top: int,
    hub: bool,
    invert: bool,
    classic: bool,
    recipe: str | None,
    tag: str | None,
    prepared: tuple[str, ...],
    classes: str | None,
    zero_channels: str | None,
    weights_key: str | None,
    batch_size: int,
    workers: int | None,
    device: str | None,
    dtype: str | None,
    strict: bool,
    as_json: bool,
) -> None:
    """Classify image FILES, all images below folders, or (-) the image that is piped in.

    A photograph or drawing of handwritten digits, dark on light or light on dark, is read from left to right. Files
    that cannot be read are listed at the end, and the exit status is 1.
    """
    import torch

    from cnnzoo.checkpoints.locate import published
    from cnnzoo.classification import classify_files
    from cnnzoo.data.image_files import class_names, known_classes
    from cnnzoo.registry import spec
    from cnnzoo.support.devices import own_device
    from cnnzoo.training.recipe import load_recipe

    stated = load_recipe(recipe) if recipe else None
    name = name or (stated.network if stated else "lenet5")
    model = load(
        name,
        checkpoint,
        classic,
        hub,
        device=own_device(device),
        dtype=getattr(torch, dtype) if dtype else None,
        weights_key=weights_key,
        zero_channels=zero_channels,
        **(stated.options if stated is not None and name == stated.network else {}),
    )
    labels, preprocessing = _labels(classes), model.checkpoint.preprocessing if model.checkpoint else None
    if stated is not None and model.checkpoint is None:  # what weights state of themselves is nearer to them
        preprocessing = stated.preprocessing
        if labels is None and stated.data["name"] in known_classes():
            labels = class_names(stated.data["name"])
    if tag:
        assert model.config is not None
        like = published(spec(model.config.name), tag, {})
        preprocessing = like.preprocessing
        if labels is None and model.checkpoint is None and len(like.classes) == model.num_classes:
            labels = like.classes
    if prepared:
        preprocessing = _preprocessing(settings_of(prepared), preprocessing)
    results: list[dict[str, Any]] = []
    unread: list[str] = []
    for file, found in classify_files(
        model,
        _images(files),
        invert=invert,
        preprocessing=preprocessing,
        classes=labels,
        batch_size=batch_size,
        workers=workers,
    ):
        if isinstance(found, DataError):
            if strict:
                raise found
            unread.append(found.text)
            results.append({"file": file, "error": found.text})
        else:
            results.append({"file": file, "classes": [asdict(guess) for guess in found[:top]]})
    if as_json:
        print_json(results)
    elif len(unread) < len(results):
        print_table(
            ("file", "class", "score", "share"),
            (
                (result["file"] if rank == 0 else "", guess["label"], f"{guess['score']:.2f}", f"{guess['share']:.1%}")
                for result in results
                for rank, guess in enumerate(result.get("classes", ()))
            ),
        )
    for why in unread:
        click.echo(f"left out: {why}", err=True)
    if unread:
        context.exit(1)


def _images(files: tuple[Path, ...]) -> list[tuple[str, bytes | None]]:
    """What each image is called, and the content of the one that is piped in."""
    from cnnzoo.extraction.tables.folder import list_images

    found: list[tuple[str, bytes | None]] = []
    for file in files:
        if str(file) == "-":
            found.append(("-", sys.stdin.buffer.read()))
        elif file.is_dir():
            found += [(str(file / one), None) for one in list_images(file).files]
        else:
            found.append((str(file), None))
    return found


def _labels(classes: str | None) -> tuple[str, ...] | None:
    """Names of classes: those of a data set, the lines of a file, or what stands between commas."""
    from cnnzoo.data.image_files import class_names

    if classes is None:
        return None
    if Path(classes).is_file():
        try:
            return tuple(line for line in Path(classes).read_text("utf-8").splitlines() if line.strip())
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{classes} cannot be read as text with a class in each line: {error}") from None
    return tuple(part.strip() for part in classes.split(",")) if "," in classes else class_names(classes)


def _preprocessing(settings: dict[str, Any], base: "Preprocessing | None") -> "Preprocessing":
    """How images are prepared, where the user changes it."""
    from cnnzoo.data.preprocessing import Preprocessing
    from cnnzoo.training.recipe import check

    check("predict", "preprocessing", {"name": "", **settings}, {"": Preprocessing})
    return replace(base or Preprocessing(), **settings)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--model", "name", type=SOURCE, required=True, help="A network with weights, or a file, folder or repository."
)
@click.option("--checkpoint", type=TAG, help="The tag of its weights, or a file, folder or repository.")
@click.option("--layer", "layers", multiple=True, help="Whose outputs are taken, by default what the classifier sees.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The .safetensors file that is written.")
@hub_option
@classic_option
@transforms_option
@zero_channels_option
@weights_key_option
@running_options
@json_option
def features(
    folder: Path,
    name: str,
    checkpoint: str | None,
    layers: tuple[str, ...],
    out: Path,
    hub: bool,
    classic: bool,
    tag: str | None,
    zero_channels: str | None,
    weights_key: str | None,
    batch_size: int,
    workers: int | None,
    device: str | None,
    dtype: str | None,
    strict: bool,
    as_json: bool,
) -> None:
    """Write the features of every image below FOLDER to a file, or go on where an earlier run was stopped.

    Sub-folders are classes. Several GPUs or machines share the work: torchrun -m cnnzoo features ...
    """
    import torch

    import cnnzoo
    from cnnzoo.checkpoints.locate import published
    from cnnzoo.support.devices import own_device

    model = load(
        name,
        checkpoint,
        classic,
        hub,
        device=own_device(device),
        dtype=getattr(torch, dtype) if dtype else None,
        progress=not as_json,
        weights_key=weights_key,
        zero_channels=zero_channels,
    )
    if not int(os.environ.get("RANK", 0)):
        goes_on(f"What is done is in {out}.parts; the same command goes on from there.")
    table = cnnzoo.save_features(
        model,
        folder,
        out,
        *layers,
        transforms=published(cnnzoo.spec(model.config.name), tag, {}).transforms() if tag else None,
        batch_size=batch_size,
        workers=workers,
        strict=strict,
        progress=not as_json,
    )
    if int(os.environ.get("RANK", 0)):  # one of several processes, of which the first reports
        return
    rows, columns = table.features.shape
    if as_json:
        said = {"file": out, "images": rows, "features": columns, "model": table.model, "layers": table.layers}
        print_json(said | {"classes": table.classes, "skipped": table.skipped})
        return
    click.echo(f"{out}: {rows:,} images x {columns:,} features, {len(table.classes):,} classes")
    for why in list(table.skipped.values())[:20]:
        click.echo(f"left out: {why}")
    if len(table.skipped) > 20:
        click.echo(f"left out: {len(table.skipped) - 20:,} more; load_features({str(out)!r}).skipped has all of them")


@click.command()
@click.option(
    "--out", default="feature_maps.png", show_default=True, type=click.Path(path_type=Path), help="The image written."
)
def demo(out: Path) -> None:
    """Read ten handwritten digits with the LeNet-5 of 1998, and draw what it sees."""
    from cnnzoo.cli.demo import run
    from cnnzoo.support.text import console

    run(console(), out)
