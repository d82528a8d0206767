"""Drawings of networks."""

from pathlib import Path

import click

from cnnzoo.cli.options import NETWORK, classic_option, set_option, settings_of, shape_of


@click.command()
@click.argument("name", type=NETWORK)
@click.option("--out", type=click.Path(path_type=Path), help="The .svg, .png or .pdf file; by default NAME.svg.")
@click.option("--style", type=click.Choice(["volumes", "graph"]), default="volumes", show_default=True)
@click.option("--depth", type=click.IntRange(min=0), help="Levels of blocks to open; by default what stays legible.")
@click.option("--theme", type=click.Choice(["auto", "light", "dark"]), default="auto", show_default=True)
@click.option("--input", "input_shape", help="Shape of an image, such as 3x224x224; by default the network's own.")
@classic_option
@set_option
def draw(
    name: str,
    out: Path | None,
    style: str,
    depth: int | None,
    theme: str,
    input_shape: str | None,
    classic: bool,
    settings: tuple[str, ...],
) -> None:
    """Draw a network or block: its maps as boxes to scale, or its layers as a graph."""
    import cnnzoo

    options = ({"classic": True} if classic else {}) | settings_of(settings)
    shape = shape_of(input_shape) if input_shape else None
    drawing = cnnzoo.draw(name, input_shape=shape, style=style, depth=depth, theme=theme, **options)  # type: ignore[arg-type]
    path = drawing.save(out or Path(f"{name}.svg"))
    click.echo(f"{path}: {drawing.title}, {drawing.width}x{drawing.height}")
