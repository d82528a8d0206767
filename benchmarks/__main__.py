"""The command line: one command for each measurement."""

import click

from benchmarks.accuracy import accuracy
from benchmarks.c3 import c3
from benchmarks.construct import construct
from benchmarks.eager import eager
from benchmarks.imports import imports
from benchmarks.load import load
from benchmarks.reproductions import reproductions
from benchmarks.shapes import shapes
from benchmarks.training import training


@click.group()
def main() -> None:
    """Measure what cnnzoo claims. Times are compared, not quoted: read the ratios."""


for command in (imports, construct, load, eager, c3, shapes, accuracy, training, reproductions):
    main.add_command(command)

if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
