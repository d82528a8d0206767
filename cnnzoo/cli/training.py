"""Training recipes and their data."""

import json
import os
import re
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cnnzoo import catalogue
from cnnzoo.cli.options import (
    RECIPE,
    SOURCE,
    goes_on,
    hub_option,
    json_option,
    settings_of,
    weights_key_option,
    zero_channels_option,
)
from cnnzoo.cli.output import print_json, print_table, say
from cnnzoo.errors import OptionError

if TYPE_CHECKING:
    from cnnzoo.cnn import CNN
    from cnnzoo.training.recipe import Recipe

data_option = click.option(
    "--data", "folder", type=click.Path(path_type=Path), help="Folder with the data set, or an archive of CAPTCHAs."
)
download_option = click.option(
    "--download", is_flag=True, help="Fetch the data set through torchvision where it is missing."
)
recipe_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Another value in the recipe, such as optimizer.lr=0.05; may be repeated.",
)
device_option = click.option("--device", help="Where to run; by default CUDA where there is one.")
workers_option = click.option(
    "--workers",
    type=click.IntRange(min=0),
    help="Processes that read images from files; by default one less than there are processors.",
)


@click.command()
@click.argument("recipe", type=RECIPE)
@data_option
@download_option
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the results; by default runs/RECIPE-seedN.")
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the training set; by default the recipe's.")
@click.option("--steps", type=click.IntRange(min=1), help="Batches instead.")
@click.option("--seed", default=0, show_default=True, help="Of weights, order and augmentation.")
@click.option("--compile", "compiled", is_flag=True, help="Compile network and loss, which takes a minute.")
@recipe_option
@device_option
@workers_option
@json_option
def train(
    recipe: str,
    folder: Path | None,
    download: bool,
    out: Path | None,
    epochs: int | None,
    steps: int | None,
    seed: int,
    compiled: bool,
    settings: tuple[str, ...],
    device: str | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Run a training RECIPE, or resume where it stopped. `cnnzoo recipes` lists them.

    RECIPE is a name, or a file of your own that ends in .toml. Under torchrun the processes share every batch:
    torchrun --nproc-per-node 8 -m cnnzoo train resnet50 --data imagenet
    """
    from cnnzoo.training.loop import train as run_recipe
    from cnnzoo.training.recipe import load_recipe

    if epochs and steps:
        raise OptionError("got --epochs and --steps; a run has one length")
    length = {key: value for key, value in (("epochs", epochs), ("steps", steps)) if value}
    changed = settings_of(settings) | length | ({"compile": True} if compiled else {})
    stated = load_recipe(recipe, changed)
    out = out or Path("runs") / f"{stated.name}-seed{seed}"
    if os.environ.get("RANK", "0") == "0":
        goes_on(f"The epochs that are done are in {out}; the same command goes on from there.")
    run = run_recipe(
        stated,
        stated.load_data(folder, download=download),
        out,
        seed=seed,
        device=device,
        progress=not as_json,
        workers=workers,
        command=_command(stated.name, changed, seed),
    )
    if os.environ.get("RANK", "0") != "0":  # torchrun's other processes have nothing to add
        return
    last = run.epochs[-1]
    if as_json:
        print_json(asdict(last) | {"folder": str(run.folder)})
        return
    say(f"test accuracy {last.test_accuracy:.4f} after epoch {last.epoch}")
    for quantity, value in stated.published.items():
        say(f"published {quantity}: {value}")
    say(f"weights: {run.folder / 'model.safetensors'}")


@click.command("eval")
@click.argument("recipe", type=RECIPE)
@click.option(
    "--weights",
    "what",
    type=SOURCE,
    help="A network, tag, folder or repository, or a file, which may hold a state dict alone; by default "
    "runs/RECIPE-seed0.",
)
@click.option("--seed", type=int, help="Also measure the training images that a run with this seed holds out.")
@data_option
@download_option
@recipe_option
@device_option
@workers_option
@hub_option
@zero_channels_option
@weights_key_option
@json_option
def eval_(
    recipe: str,
    what: str | None,
    seed: int | None,
    folder: Path | None,
    download: bool,
    settings: tuple[str, ...],
    device: str | None,
    workers: int | None,
    hub: bool,
    zero_channels: str | None,
    weights_key: str | None,
    as_json: bool,
) -> None:
    """Measure weights on the test set of a training RECIPE, with images prepared as the weights want them.

    The recipe names the network, so that --weights takes a file that does not: it is then read as weights of that
    network, and its images are prepared as the recipe states.
    """
    from cnnzoo.data.images import ImageSet
    from cnnzoo.reader import CaptchaReader
    from cnnzoo.support.progress import Display
    from cnnzoo.training.evaluation import evaluate
    from cnnzoo.training.fitting import require_network, require_scores
    from cnnzoo.training.recipe import load_recipe
    from cnnzoo.training.world import joined

    stated = load_recipe(recipe, settings_of(settings))
    run = Path("runs", f"{stated.name}-seed0")
    if what is None and not run.is_dir():
        raise OptionError(f"there is no run {run}; `cnnzoo train {recipe}` makes it, or name weights by --weights")
    model = _weights_for(stated, what or str(run), hub, zero_channels, weights_key)
    require_network(stated, model)
    if folder is not None and isinstance(model, CaptchaReader):  # of whose characters a test need not show all
        stated = replace(stated, data={"charset": model.charset} | stated.data)
    sets: dict[str, Any] = stated.load_data(folder, download=download)
    stated = stated.fitted(sets)
    if seed is not None:
        sets = stated.hold_out(sets, seed)
    del sets["train"]
    images = model.checkpoint.preprocessing if model.checkpoint else stated.preprocessing
    found = {}
    with joined(device) as world, Display(enabled=world.is_first and not as_json) as display:
        model.to(world.device)
        for name, split in sets.items():
            require_scores(model, split)
            loss = stated.make_loss()
            display.begin(f"{name} images", len(split), unit="image")
            around: dict[str, Any] = {"world": world, "workers": workers, "display": display}
            measures = evaluate(model, split, images, loss, views=stated.views, **around)
            found[name] = {key: value for key, value in asdict(measures).items() if value is not None or as_json}
    test = sets["test"]
    whole = test.whole if isinstance(test, ImageSet) and test.whole else len(test)
    if as_json:
        more = {"images": len(test), "published_images": whole}
        print_json(found.pop("test") | more | found)
        return
    for name, measures in found.items():
        for quantity, value in measures.items():
            click.echo(f"{name} {quantity} {value:.4f}")
    if whole > len(test):
        click.echo(f"measured on {len(test):,} of the {whole:,} test images")


def _weights_for(recipe: "Recipe", what: str, hub: bool, zero_channels: Any, weights_key: str | None) -> "CNN":
    """The network of a recipe with weights; a file that does not name its network is read as weights of this one."""
    from cnnzoo.checkpoints.folder import describe
    from cnnzoo.data.image_files import class_names, known_classes
    from cnnzoo.registry import ModelName
    from cnnzoo.zoo import load_pretrained

    model: Any
    if Path(what).is_file() and describe(Path(what)) is None:
        data = recipe.data["name"]
        options = recipe.options_for(class_names(data)) if data in known_classes() else recipe.options
        name = ModelName(recipe.network)
        model = load_pretrained(name, checkpoint=what, zero_channels=zero_channels, weights_key=weights_key, **options)
    else:
        model = load_pretrained(ModelName(what), hub=hub, zero_channels=zero_channels, weights_key=weights_key)
    return model


@click.command()
@json_option
def recipes(as_json: bool) -> None:
    """Show the training recipes."""
    if as_json:
        from cnnzoo.training.recipe import load_recipe

        print_json([load_recipe(name).stated for name in catalogue.recipes()])
        return
    tables = {name: catalogue.recipe_table(name) for name in catalogue.recipes()}
    print_table(
        ("recipe", "length", "what it is"),
        ((name, catalogue.recipe_length(table), table["title"]) for name, table in tables.items()),
        prose=("what it is",),
    )


@click.command()
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The ZIP archive that is written.")
@click.option("--count", default=8000, show_default=True, type=click.IntRange(min=1), help="Training images.")
@click.option("--test", default=2000, show_default=True, type=click.IntRange(min=1), help="Test images.")
@click.option("--seed", default=0, show_default=True, help="Of the sequence of images.")
@click.option("--charset", default="0123456789", show_default=True, help="The characters that occur.")
@click.option("--length", default="4", show_default=True, help="Characters in an image; 4-6 for as many as 4, 5 or 6.")
@click.option("--width", default=180, show_default=True, type=click.IntRange(min=1), help="Of an image in pixels.")
@click.option("--height", default=100, show_default=True, type=click.IntRange(min=1), help="Of an image in pixels.")
def captchas(out: Path, count: int, test: int, length: str, **captcha: Any) -> None:
    """Draw CAPTCHAs into an archive, for `train --data` on machines that cannot draw: some 6 kB each."""
    from cnnzoo.data import Captcha, write_captchas
    from cnnzoo.support.files import replacing
    from cnnzoo.support.progress import Display

    hit = re.fullmatch(r"(\d+)(?:-(\d+))?", length)
    if hit is None:
        raise OptionError(f"got --length {length}; expected a number of characters, or the fewest and most: 4-6")
    kind = Captcha(length=(int(hit[1]), int(hit[2])) if hit[2] else int(hit[1]), **captcha)
    drawn = 0

    def advance(more: int) -> None:
        nonlocal drawn
        drawn += more
        display.step(drawn)

    with Display() as display, replacing(out) as aside:
        display.begin("drawing", count + test, unit="image")
        write_captchas(aside, kind, train=count, test=test, advance=advance)
    click.echo(f"wrote {out}: {count} training and {test} test images, {out.stat().st_size / 2**20:.1f} MB")


def _command(recipe: str, changed: dict[str, Any], seed: int) -> str:
    """What to type for the same run; data folders and devices are elsewhere called otherwise."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    program = "cnnzoo" if processes == 1 else f"torchrun --nproc-per-node {processes} -m cnnzoo"
    given = [f"--set {shlex.quote(f'{key}={_setting(value)}')}" for key, value in changed.items()]
    return " ".join([program, "train", recipe, *given, f"--seed {seed}"])


def _setting(value: Any) -> str:
    """What `settings_of` reads as that value."""
    bare = isinstance(value, str) and settings_of([f"key={value}"])["key"] == value
    return value if bare else json.dumps(value)
