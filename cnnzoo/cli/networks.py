"""What networks there are, and how they look."""

import importlib
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

import click

from cnnzoo.cli.options import classic_option, json_option, set_option, settings_of, shape_of
from cnnzoo.cli.output import console, print_json, print_table
from cnnzoo.errors import OptionError
from cnnzoo.support.text import first_line


@click.command("list")
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
        print_json(rows)
        return
    print_table(
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


@click.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show a network's paper, arguments and weights."""
    import inspect

    import cnnzoo
    from cnnzoo.checkpoints.table import list_checkpoints

    spec = cnnzoo.spec(name)
    entry = _entry(name) | {
        "paper": spec.paper.citation,
        "url": spec.paper.url,
        "options": {key: repr(parameter.default) for key, parameter in spec.parameters.items()},
        "checkpoints": [asdict(one) for one in list_checkpoints(name)],
    }
    if as_json:
        print_json(entry)
        return
    screen = console()
    screen.print(inspect.getdoc(spec.build), markup=False, highlight=False)
    screen.print(f"\nPaper: {entry['paper']} {entry['url']}", markup=False, highlight=False)
    screen.print(f"Parameters: {entry['params']:,}\n", markup=False, highlight=False)
    print_table(("argument", "default"), entry["options"].items())
    if entry["checkpoints"]:
        columns = ("tag", "options", "accuracy", "data", "license")
        print_table(columns, ([str(one[column]) for column in columns] for one in entry["checkpoints"]))
        for one in entry["checkpoints"]:
            if one["card"]:
                screen.print(f"{one['tag']}: {one['card'].strip()}\n", markup=False, highlight=False)


@click.command()
@click.argument("name")
@click.option("--input", "input_shape", help="Shape of an image, such as 3x224x224; by default the network's own.")
@classic_option
@set_option
@json_option
def shapes(name: str, input_shape: str | None, classic: bool, settings: tuple[str, ...], as_json: bool) -> None:
    """Show every layer's output shape, parameters, multiply-adds and receptive field."""
    import cnnzoo

    model = _create(name, classic, settings)
    summary = cnnzoo.summary(model, shape_of(input_shape) if input_shape else None)
    if as_json:
        print_json(asdict(summary))
    else:
        console().print(summary)


@click.command()
@click.argument("names", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Every network, both variants.")
@click.option(
    "--against",
    metavar="MODULE.NAME",
    help="Compare somebody else's network with NAME's paper: a Python function or class that builds it without "
    "arguments, such as torchvision.models.alexnet, or a network. It is imported, which runs its code.",
)
@click.option("--differences", is_flag=True, help="Show only the rows that differ.")
@classic_option
@json_option
@click.pass_context
def verify(
    ctx: click.Context,
    names: tuple[str, ...],
    every: bool,
    against: str | None,
    differences: bool,
    classic: bool,
    as_json: bool,
) -> None:
    """Compare networks with everything their papers state; exit status 1 on any disagreement."""
    import cnnzoo
    from cnnzoo.verification import printed_networks

    if against is not None:
        last = against.rpartition(".")[2]
        if every or len(names) > 1:
            raise click.UsageError("--against compares one network with one paper: name one network")
        results = [cnnzoo.verify(_imported(against), paper=names[0] if names else last, classic=classic)]
    elif every:
        tables = [table for name in cnnzoo.list_models() for table in printed_networks(cnnzoo.spec(name))]
        results = [cnnzoo.verify(table["name"], classic=table.get("classic", False)) for table in tables]
    elif names:
        results = [cnnzoo.verify(name, classic=classic) for name in names]
    else:
        raise click.UsageError("name a network, or pass --all")
    shown = [replace(result, rows=result.differences) if differences else result for result in results]
    if as_json:
        print_json([asdict(part) | {"ok": result.ok} for part, result in zip(shown, results, strict=True)])
    else:
        for part, result in zip(shown, results, strict=True):
            console().print(part if part.rows else f"{result.title}: no differences")
            if differences:
                console().print(result.total)
    ctx.exit(0 if all(result.ok for result in results) else 1)


def _imported(path: str) -> Any:
    """What a dotted path names, also in a file of the current folder."""
    module, _, name = path.rpartition(".")
    before = list(sys.path)
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise OptionError(
            f"--against {path}: cannot import it: {first_line(error)}; expected a module and a name in it, such as "
            "torchvision.models.alexnet"
        ) from None
    finally:
        sys.path[:] = before
    if not callable(found):
        raise OptionError(f"--against {path}: is a {type(found).__name__}; expected a network or what builds one")
    return found


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
    options |= settings_of(settings)
    return cnnzoo.create(cnnzoo.spec(name).name, device="meta", **options)
