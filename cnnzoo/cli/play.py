"""The pages on which a browser runs the bundled networks."""

import click


@click.command()
@click.option("--port", default=8021, show_default=True, type=click.IntRange(0, 65535), help="0 takes any free one.")
@click.option("--no-browser", is_flag=True, help="Only serve the page, and print where it is.")
def play(port: int, no_browser: bool) -> None:
    """Draw a digit and watch LeNet-5 read it, in the browser."""
    from cnnzoo.play import serve

    serve(port, browser=not no_browser, say=click.echo)
