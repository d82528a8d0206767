"""The command line. Everything heavy is imported by the command that needs it, so that `--help` answers at once."""

import json
import os
import shlex
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click

from cnnzoo import __version__
from cnnzoo.errors import CnnzooError, OptionError


class Failure(click.ClickException):
    """One line on standard error, and exit status 2."""

    exit_code = 2


class Cnnzoo(click.Group):
    """Turns what cnnzoo and the file system raise into a `Failure`."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (CnnzooError, OSError) as error:
            raise Failure(" ".join(str(error).split())) from None


@click.group(cls=Cnnzoo, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cnnzoo")
def main() -> None:
    """The classic convolutional networks, checked layer by layer against their papers."""


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
classic_option = click.option("--classic", is_flag=True, help="The network exactly as its paper printed it.")
hub_option = click.option("--hub", is_flag=True, help="Download the weights where they are not at hand.")
set_option = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="An argument of the constructor; may be repeated."
)


@main.command("list")
@click.argument("pattern", default="*")
@click.option("--family", help="Only this family, such as lenet.")
@click.option("--pretrained", is_flag=True, help="Only those with published weights.")
@click.option("--blocks", is_flag=True, help="Building blocks instead of whole networks.")
@json_option
def list_(pattern: str, family: str | None, pretrained: bool, blocks: bool, as_json: bool) -> None:
    """Show the networks whose names match PATTERN, such as 'resnet*'."""
    import cnnzoo

    kind = "block" if blocks else "model"
    names = cnnzoo.list_models(pattern, family=family, kind=kind, pretrained=pretrained or None)
    rows = [_entry(name) for name in names]
    if as_json:
        _print_json(rows)
        return
    _print_table(
        ("network", "input", "parameters", "classic", "weights"),
        (
            (
                row["name"],
                "x".join(map(str, row["input_shape"])),
                f"{row['params']:,}",
                "yes" if row["classic"] else "",
                ", ".join(row["weights"]),
            )
            for row in rows
        ),
    )


@main.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show a network's paper, arguments and weights."""
    import inspect

    import cnnzoo
    from cnnzoo.checkpoints.table import checkpoints

    spec = cnnzoo.spec(name)
    entry = _entry(name) | {
        "paper": spec.paper.citation,
        "url": spec.paper.url,
        "options": {key: repr(parameter.default) for key, parameter in spec.parameters.items()},
        "checkpoints": [asdict(one) for one in checkpoints(name)],
    }
    if as_json:
        _print_json(entry)
        return
    console = _console()
    console.print(inspect.getdoc(spec.build), markup=False, highlight=False)
    console.print(f"\nPaper: {entry['paper']} {entry['url']}", markup=False, highlight=False)
    console.print(f"Parameters: {entry['params']:,}\n", markup=False, highlight=False)
    _print_table(("argument", "default"), entry["options"].items())
    if entry["checkpoints"]:
        columns = ("tag", "options", "accuracy", "data", "license")
        _print_table(columns, ([str(one[column]) for column in columns] for one in entry["checkpoints"]))
        for one in entry["checkpoints"]:
            if one["card"]:
                console.print(f"{one['tag']}: {one['card'].strip()}\n", markup=False, highlight=False)


@main.command()
@click.argument("name")
@click.option("--input", "input_shape", help="Shape of a picture, such as 3x224x224; by default the network's own.")
@classic_option
@set_option
@json_option
def shapes(name: str, input_shape: str | None, classic: bool, settings: tuple[str, ...], as_json: bool) -> None:
    """Show every layer's output shape, parameters, multiply-adds and receptive field."""
    import cnnzoo

    model = _create(name, classic, settings)
    own = getattr(model, "input_shape", None) or cnnzoo.spec(name).input_shape  # a block has no shape of its own
    summary = cnnzoo.summary(model, _shape(input_shape) if input_shape else own)
    if as_json:
        _print_json(asdict(summary))
    else:
        _console().print(summary)


@main.command()
@click.argument("names", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Every network, both variants.")
@classic_option
@json_option
@click.pass_context
def verify(ctx: click.Context, names: tuple[str, ...], every: bool, classic: bool, as_json: bool) -> None:
    """Compare networks with every figure their papers print; exit status 1 on any disagreement."""
    import cnnzoo
    from cnnzoo.verification import printed_networks

    if every:
        tables = [table for name in cnnzoo.list_models() for table in printed_networks(cnnzoo.spec(name))]
        asked = [(table["name"], table.get("classic", False)) for table in tables]
    elif names:
        asked = [(name, classic) for name in names]
    else:
        raise click.UsageError("name a network, or pass --all")
    results = [cnnzoo.verify(name, classic=variant) for name, variant in asked]
    if as_json:
        _print_json([asdict(result) | {"ok": result.ok} for result in results])
    else:
        for result in results:
            _console().print(result)
    ctx.exit(0 if all(result.ok for result in results) else 1)


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--model", "name", default="lenet5", show_default=True, help="A network with weights.")
@click.option("--checkpoint", help="The tag of its weights, or a file, folder or repository.")
@click.option("--top", default=5, show_default=True, type=click.IntRange(min=1), help="How many classes to show.")
@hub_option
@click.option("--invert", is_flag=True, help="Swap black and white, for dark things on a light ground.")
@classic_option
@json_option
def predict(
    files: tuple[Path, ...],
    name: str,
    checkpoint: str | None,
    top: int,
    hub: bool,
    invert: bool,
    classic: bool,
    as_json: bool,
) -> None:
    """Classify picture FILES."""
    from cnnzoo.data.pictures import open_picture
    from cnnzoo.predict import classify, load

    pictures = [open_picture(path) for path in files]
    model = load(name, checkpoint, classic, hub)
    results = [
        {"file": str(path), "classes": [asdict(guess) for guess in guesses[:top]]}
        for path, guesses in zip(files, classify(model, pictures, invert=invert), strict=True)
    ]
    if as_json:
        _print_json(results)
        return
    _print_table(
        ("file", "class", "score", "share"),
        (
            (result["file"] if rank == 0 else "", guess["label"], f"{guess['score']:.2f}", f"{guess['share']:.1%}")
            for result in results
            for rank, guess in enumerate(result["classes"])
        ),
    )


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--model", "name", required=True, help="A network with weights, or a file, folder or repository.")
@click.option("--checkpoint", help="The tag of its weights, or a file, folder or repository.")
@click.option("--layer", "layers", multiple=True, help="Whose outputs are taken, by default what the classifier sees.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The .safetensors file that is written.")
@hub_option
@classic_option
@click.option("--transforms", "tag", metavar="TAG", help="Prepare the pictures as for these weights of the network.")
@click.option("--batch-size", default=64, show_default=True, help="Pictures that the network takes at a time.")
@click.option("--workers", type=click.IntRange(min=0), help="Processes that read pictures; by default one a core.")
@click.option("--device", help="Where to compute; by default CUDA where there is one.")
@click.option("--dtype", type=click.Choice(["float32", "float16", "bfloat16"]), help="By default that of the weights.")
@click.option("--strict", is_flag=True, help="Stop at a picture that cannot be read, which is left out otherwise.")
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
    batch_size: int,
    workers: int | None,
    device: str | None,
    dtype: str | None,
    strict: bool,
    as_json: bool,
) -> None:
    """Write the features of every picture below FOLDER to a file, or go on where an earlier run was stopped.

    Sub-folders are classes. Several GPUs or machines share the work: torchrun --no-python cnnzoo features ...
    """
    import os

    import torch

    import cnnzoo
    from cnnzoo.checkpoints.locate import published
    from cnnzoo.feature_tables.ranks import own_device

    options: dict[str, Any] = {"classic": True} if classic else {}
    model: Any = cnnzoo.load_pretrained(
        cnnzoo.ModelName(name),
        checkpoint=checkpoint,
        hub=hub,
        device=own_device(device),
        dtype=getattr(torch, dtype) if dtype else None,
        progress=not as_json,
        **options,
    )
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
        said = {"file": out, "pictures": rows, "features": columns, "model": table.model, "layers": table.layers}
        _print_json(said | {"classes": table.classes, "skipped": table.skipped})
        return
    click.echo(f"{out}: {rows:,} pictures x {columns:,} features, {len(table.classes):,} classes")
    for why in list(table.skipped.values())[:20]:
        click.echo(f"left out: {why}")
    if len(table.skipped) > 20:
        click.echo(f"left out: {len(table.skipped) - 20:,} more; load_features({str(out)!r}).skipped has all of them")


@main.command()
@click.argument("names", nargs=-1)
@json_option
def weights(names: tuple[str, ...], as_json: bool) -> None:
    """Show the published weights of networks NAMES, by default of all; `weights pin` looks them up on the hub.

    Pinning writes the current revision and sha256 of every checkpoint on the hub into the table of this checkout; it
    is for maintainers.
    """
    import cnnzoo
    from cnnzoo.checkpoints.table import checkpoints

    if names == ("pin",):
        from cnnzoo.checkpoints.pin import pin

        click.echo(f"pinned {pin()} checkpoints")
        return
    rows = [
        asdict(one) | {"name": f"{name}.{one.tag}"}
        for name in names or cnnzoo.list_models(pretrained=True)
        for one in checkpoints(cnnzoo.spec(name).name)
    ]
    if as_json:
        _print_json(rows)
        return
    _print_table(
        ("weights", "from", "top 1", "MB", "license"),
        (
            (
                row["name"],
                row["repo"] or row["weights"] or row["source"],
                "" if row["accuracy"] is None else f"{row['accuracy']:.1%}",
                "" if row["size_mb"] is None else f"{row['size_mb']:.0f}",
                row["license"],
            )
            for row in rows
        ),
    )


@main.command("export-weights")
@click.argument("name")
@click.option("--layout", type=click.Choice(["torchvision", "timm"]), required=True, help="Whose names they get.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A .safetensors or .pth file.")
@hub_option
def export_weights(name: str, layout: Any, out: Path, hub: bool) -> None:
    """Write the weights of NAME (a network, tag, file, folder or repository) as torchvision or timm load them."""
    from cnnzoo.checkpoints.layouts import to_layout
    from cnnzoo.checkpoints.save import write_tensors
    from cnnzoo.predict import load

    write_tensors(to_layout(load(name, None, False, hub), layout), out)
    click.echo(f"wrote {out}")


@main.command("export-onnx")
@click.argument("name")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The .onnx file.")
@hub_option
@classic_option
def export_onnx(name: str, out: Path, hub: bool, classic: bool) -> None:
    """Write NAME (a network, tag, file, folder or repository) with its weights as ONNX, for any batch size."""
    import cnnzoo
    from cnnzoo.predict import load

    cnnzoo.export_onnx(load(name, None, classic, hub), out)
    click.echo(f"wrote {out}")


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
    help="Processes that read pictures from files; by default one less than there are processors.",
)


@main.command()
@click.argument("recipe")
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
    """Run a training RECIPE, or go on with it where it was stopped. `cnnzoo recipes` lists them.

    RECIPE is a name, or a file of your own that ends in .toml. Under torchrun the processes share every batch:
    torchrun --nproc-per-node 8 -m cnnzoo.cli train resnet50 --data imagenet
    """
    from cnnzoo.recipes.loop import train as run_recipe
    from cnnzoo.recipes.recipe import load_recipe

    if epochs and steps:
        raise OptionError("train: got --epochs and --steps; a run has one length")
    length = {key: value for key, value in (("epochs", epochs), ("steps", steps)) if value}
    changed = _settings(settings) | length | ({"compile": True} if compiled else {})
    stated = load_recipe(recipe, changed)
    run = run_recipe(
        stated,
        stated.load_data(folder, download=download),
        out or Path("runs") / f"{stated.name}-seed{seed}",
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
        _print_json(asdict(last) | {"folder": str(run.folder)})
        return
    console = _console()
    console.print(f"test accuracy {last.test_accuracy:.4f} after {last.epoch} epochs")
    for quantity, value in stated.published.items():
        console.print(f"published {quantity}: {value}")
    console.print(f"weights: {run.folder / 'model.safetensors'}", soft_wrap=True)


@main.command("eval")
@click.argument("recipe")
@click.option("--weights", "what", help="A network, tag, file, folder or repository; by default runs/RECIPE-seed0.")
@data_option
@download_option
@recipe_option
@device_option
@workers_option
@hub_option
@json_option
def eval_(
    recipe: str,
    what: str | None,
    folder: Path | None,
    download: bool,
    settings: tuple[str, ...],
    device: str | None,
    workers: int | None,
    hub: bool,
    as_json: bool,
) -> None:
    """Measure weights on the test set of a training RECIPE, with pictures prepared as the weights want them."""
    from cnnzoo.predict import load
    from cnnzoo.recipes.evaluation import evaluate
    from cnnzoo.recipes.loop import require_network, require_scores
    from cnnzoo.recipes.recipe import load_recipe
    from cnnzoo.recipes.world import joined

    stated = load_recipe(recipe, _settings(settings))
    model = load(what or f"runs/{stated.name}-seed0", None, False, hub)
    require_network(stated, model)
    pictures = model.checkpoint.preprocessing if model.checkpoint else stated.preprocessing
    test: Any = stated.load_data(folder, download=download)["test"]
    require_scores(model, test)
    with joined(device) as world:
        model.to(world.device)
        found = evaluate(model, test, pictures, stated.make_loss(), views=stated.views, world=world, workers=workers)
    if as_json:
        _print_json(asdict(found))
        return
    for quantity, value in asdict(found).items():
        if value is not None:
            click.echo(f"test {quantity} {value:.4f}")


@main.command()
@json_option
def recipes(as_json: bool) -> None:
    """Show the training recipes."""
    from cnnzoo.recipes.recipe import list_recipes, load_recipe

    known = [load_recipe(name) for name in list_recipes()]
    if as_json:
        _print_json([recipe.stated for recipe in known])
        return
    _print_table(("recipe", "length", "what it is"), ((one.name, one.length, one.title) for one in known))


@main.command()
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The ZIP archive that is written.")
@click.option("--count", default=8000, show_default=True, type=click.IntRange(min=1), help="Training pictures.")
@click.option("--test", default=2000, show_default=True, type=click.IntRange(min=1), help="Test pictures.")
@click.option("--seed", default=0, show_default=True, help="Of the sequence of pictures.")
@click.option("--charset", default="0123456789", show_default=True, help="The characters that occur.")
@click.option("--length", default=4, show_default=True, type=click.IntRange(min=1), help="Characters in a picture.")
@click.option("--width", default=180, show_default=True, type=click.IntRange(min=1), help="Of a picture in pixels.")
@click.option("--height", default=100, show_default=True, type=click.IntRange(min=1), help="Of a picture in pixels.")
def captchas(out: Path, count: int, test: int, **captcha: Any) -> None:
    """Draw CAPTCHAs into an archive, for `train --data` on machines that cannot draw: some 6 kB each."""
    from rich.progress import Progress

    from cnnzoo.checkpoints.files import replacing
    from cnnzoo.data.captchas import Captcha, write_captchas

    with Progress(transient=True) as progress, replacing(out) as aside:
        advance = partial(progress.advance, progress.add_task("drawing", total=count + test))
        write_captchas(aside, Captcha(**captcha), train=count, test=test, advance=advance)
    click.echo(f"wrote {out}: {count} training and {test} test pictures, {out.stat().st_size / 2**20:.1f} MB")


@main.command()
@click.option(
    "--out", default="feature_maps.png", show_default=True, type=click.Path(path_type=Path), help="The picture written."
)
def demo(out: Path) -> None:
    """Classify ten real pictures with the LeNet-5 of 1998, and draw what it sees."""
    from cnnzoo.demo import run

    run(_console(), out)


def _entry(name: str) -> dict[str, Any]:
    import cnnzoo

    spec = cnnzoo.spec(name)
    model = cnnzoo.create(spec.name, device="meta")
    return {
        "name": spec.name,
        "family": spec.family,
        "summary": spec.summary,
        "input_shape": spec.input_shape,
        "params": sum(parameter.numel() for parameter in model.parameters()),
        "classic": spec.has_classic,
        "weights": spec.checkpoints,
    }


def _create(name: str, classic: bool, settings: Iterable[str]) -> Any:
    import cnnzoo

    options: dict[str, Any] = {"classic": True} if classic else {}
    options |= _settings(settings)
    return cnnzoo.create(cnnzoo.spec(name).name, device="meta", **options)


def _settings(given: Iterable[str]) -> dict[str, Any]:
    """What `--set` was given; values are JSON, and a bare word is a string."""
    settings: dict[str, Any] = {}
    for setting in given:
        key, equals, value = setting.partition("=")
        if not equals:
            raise OptionError(f"--set {setting}: expected KEY=VALUE")
        try:
            settings[key] = json.loads(value)
        except ValueError:
            settings[key] = value
    return settings


def _command(recipe: str, changed: dict[str, Any], seed: int) -> str:
    """What to type for the same run; data folders and devices are elsewhere called otherwise."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    program = "cnnzoo" if processes == 1 else f"torchrun --nproc-per-node {processes} -m cnnzoo.cli"
    given = [f"--set {shlex.quote(f'{key}={_setting(value)}')}" for key, value in changed.items()]
    return " ".join([program, "train", recipe, *given, f"--seed {seed}"])


def _setting(value: Any) -> str:
    """What `_settings` reads as that value."""
    bare = isinstance(value, str) and _settings([f"key={value}"])["key"] == value
    return value if bare else json.dumps(value)


def _shape(text: str) -> tuple[int, ...]:
    sizes = text.lower().split("x")
    if not all(size.isdigit() and int(size) for size in sizes):
        raise OptionError(f"--input {text}: expected sizes joined by x, such as 3x224x224")
    return tuple(int(size) for size in sizes)


def _console():
    from rich.console import Console

    return Console()


def _print_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    from cnnzoo.tables import rich_table

    _console().print(rich_table(columns, rows))


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=1, default=str))


if __name__ == "__main__":
    main()
