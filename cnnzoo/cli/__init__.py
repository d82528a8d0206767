"""The command line. Everything heavy is imported by the command that needs it, so that `--help` answers at once."""

import warnings
from typing import Any

import click

from cnnzoo import __version__
from cnnzoo.cli.checkpoints import export_onnx, export_weights, weights
from cnnzoo.cli.drawing import draw
from cnnzoo.cli.inference import demo, features, predict
from cnnzoo.cli.messages import in_options, one_line
from cnnzoo.cli.networks import list_, shapes, show, verify
from cnnzoo.cli.options import GOES_ON
from cnnzoo.cli.play import play
from cnnzoo.cli.seeing import see
from cnnzoo.cli.training import captchas, eval_, recipes, train
from cnnzoo.errors import CnnzooError


class Failure(click.ClickException):
    """One line on standard error, and exit status 2."""

    exit_code = 2


class Stopped(click.ClickException):
    """A run that somebody stopped, and which goes on when it is started again; exit status as shells have it."""

    exit_code = 130

    def show(self, file: Any = None) -> None:
        click.echo(f"\nStopped. {self.message}", err=True)


class Cnnzoo(click.Group):
    """Turns what cnnzoo and the file system raise into a `Failure`, and shows what commands do in whole sentences."""

    def invoke(self, ctx: click.Context) -> Any:

        def said(message: Warning | str, *_: Any) -> None:
            """A warning as an error is said: without the place in the source that it is from."""
            text = str(message).removeprefix("load_pretrained: ")
            click.echo(f"warning: {in_options(text, self.commands.get(ctx.invoked_subcommand or ''))}", err=True)

        try:
            with warnings.catch_warnings():
                warnings.showwarning = said
                return super().invoke(ctx)
        except BrokenPipeError:  # whoever reads has seen enough
            raise
        except (CnnzooError, OSError) as error:
            raise Failure(one_line(error, self.commands.get(ctx.invoked_subcommand or ""))) from None
        except KeyboardInterrupt:
            if GOES_ON not in ctx.meta:
                raise
            raise Stopped(ctx.meta[GOES_ON]) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        whole = 10_000  # characters: the formatter breaks lines
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, self.commands[name].get_short_help_str(whole)) for name in sorted(self.commands)]
            )


@click.group(cls=Cnnzoo, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cnnzoo")
def main() -> None:
    """The classic convolutional networks, checked layer by layer against their papers."""


for command in (
    list_,
    show,
    shapes,
    verify,
    draw,
    see,
    predict,
    features,
    demo,
    play,
    weights,
    export_weights,
    export_onnx,
    train,
    eval_,
    recipes,
    captchas,
):
    main.add_command(command)
