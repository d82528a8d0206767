"""The command line: one command for each measurement."""

from importlib import import_module

import click

COMMANDS = (
    *("imports", "construct", "load", "eager", "c3", "shapes", "extract", "accuracy", "optimize", "merge", "features"),
    *("throughput", "training", "play", "zoos", "reproductions", "compare", "report"),
)
"""Each is a function in the module of its name, imported when it is asked for: not all packages are needed for each."""


class Commands(click.Group):
    """Finds a command by its module."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        try:
            return getattr(import_module(f"benchmarks.{cmd_name}"), cmd_name)
        except ModuleNotFoundError as error:
            missing = error.name

        @click.command(cmd_name, short_help=f'needs {missing}: pip install -e ".[bench]"', add_help_option=False)
        @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
        def absent(arguments: tuple[str, ...]) -> None:
            raise click.ClickException(f'{cmd_name} needs {missing}: pip install -e ".[bench]"')

        absent.ignore_unknown_options = True
        return absent


@click.command(cls=Commands)
def main() -> None:
    """Measure what cnnzoo claims. Times are compared, not quoted: read the ratios."""


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
