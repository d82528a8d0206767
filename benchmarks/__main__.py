"""The command line: one command for each measurement."""

from importlib import import_module

import click

COMMANDS = (
    "imports",
    "construct",
    "load",
    "eager",
    "c3",
    "shapes",
    "extract",
    "accuracy",
    "optimize",
    "merge",
    "features",
    "throughput",
    "training",
    "play",
    "reproductions",
    "compare",
    "report",
)
"""Each is a function in the module of its name, imported when it is asked for: not all packages are needed for each."""


class Commands(click.Group):
    """Finds a command by its module."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        return getattr(import_module(f"benchmarks.{name}"), name) if name in COMMANDS else None

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.about(context, name)) for name in COMMANDS])

    def about(self, context: click.Context, name: str) -> str:
        """What a command says it does; where a package is missing, what to install."""
        try:
            command = self.get_command(context, name)
        except ModuleNotFoundError as error:
            return f'needs {error.name}: pip install -e ".[bench]"'
        return command.get_short_help_str(limit=100) if command else ""


@click.command(cls=Commands)
def main() -> None:
    """Measure what cnnzoo claims. Times are compared, not quoted: read the ratios."""


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
