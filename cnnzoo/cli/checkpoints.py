"""Published weights, and files for other programs."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from cnnzoo.catalogue import entries, matching
from cnnzoo.cli.options import PINNED, SOURCE, classic_option, hub_option, json_option, load
from cnnzoo.cli.output import print_json, print_table


@click.command()
@click.argument("names", nargs=-1, type=PINNED)
@json_option
def weights(names: tuple[str, ...], as_json: bool) -> None:
    """Show the published weights of networks NAMES, by default of all; `weights pin` looks them up on the hub.

    Pinning writes the current revision and sha256 of every checkpoint on the hub into the table of this checkout; it
    is for maintainers.
    """
    from cnnzoo.checkpoints.table import list_checkpoints

    if names == ("pin",):
        from cnnzoo.checkpoints.pin import pin

        click.echo(f"pinned {pin()} checkpoints")
        return
    rows = [
        asdict(one) | {"name": f"{name}.{one.tag}"}
        for name in names or [one.name for one in matching(entries().values(), pretrained=True)]
        for one in list_checkpoints(name)
    ]
    if as_json:
        print_json(rows)
        return
    print_table(
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
        right=("top 1", "MB"),
    )


@click.command("export-weights")
@click.argument("name", type=SOURCE)
@click.option("--layout", type=click.Choice(["torchvision", "timm"]), required=True, help="Whose names they get.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A .safetensors or .pth file.")
@hub_option
def export_weights(name: str, layout: Any, out: Path, hub: bool) -> None:
    """Write the weights of NAME (a network, tag, file, folder or repository) as torchvision or timm load them."""
    from cnnzoo.checkpoints.layouts import to_layout
    from cnnzoo.checkpoints.weights import write_weights

    write_weights(to_layout(load(name, None, False, hub), layout), out)
    click.echo(f"wrote {out}")


@click.command("export-onnx")
@click.argument("name", type=SOURCE)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The .onnx file.")
@hub_option
@classic_option
def export_onnx(name: str, out: Path, hub: bool, classic: bool) -> None:
    """Write NAME (a network, tag, file, folder or repository) with its weights as ONNX, for any batch size."""
    import cnnzoo

    cnnzoo.export_onnx(load(name, None, classic, hub), out)
    click.echo(f"wrote {out}")
