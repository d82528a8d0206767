"""What networks there are, and how they look."""

import importlib
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

import click

from cnnzoo import catalogue
from cnnzoo.catalogue import Entry
from cnnzoo.cli.options import (
    FAMILY,
    NETWORK,
    PATTERN,
    classic_option,
    json_option,
    set_option,
    settings_of,
    shape_of,
)
from cnnzoo.cli.output import print_json, print_table, print_view, say
from cnnzoo.errors import OptionError, UnknownNameError, suggestion
from cnnzoo.support.text import first_line


@click.command("list")
@click.argument("pattern", default="*", type=PATTERN)
@click.option("--family", type=FAMILY, help="Only this family, such as lenet.")
@click.option("--pretrained", is_flag=True, help="Only those with published weights.")
@click.option("--blocks", is_flag=True, help="Building blocks instead of whole networks.")
@json_option
def list_(pattern: str, family: str | None, pretrained: bool, blocks: bool, as_json: bool) -> None:
    """Show the networks whose names match PATTERN, such as 'resnet*'."""
    kind = "block" if blocks else "model"
    known = catalogue.entries().values()
    found = catalogue.matching(known, pattern, family=family, kind=kind, pretrained=pretrained or None)
    if not found:
        names = [one.name for one in known if one.kind == kind]
        limits = [f"of family {family}"] * bool(family) + ["with published weights"] * pretrained
        raise UnknownNameError(
            f"no {'block' if blocks else 'network'} {' and '.join([*limits, f'matches {pattern!r}'])}"
            f"{': ' + suggestion(pattern, names) if not limits else ''}"
        )
    if as_json:
        print_json([_entry(one) for one in found])
        return
    print_table(
        ("network", "input", "parameters", "classic", "weights"),
        (
            (
                one.name,
                "x".join(map(str, one.input_shape)),
                f"{one.params:,}",
                "yes" if one.has_classic else "",
                ", ".join(one.checkpoints),
            )
            for one in found
        ),
        right=("input", "parameters"),
        prose=("weights",),
    )


@click.command()
@click.argument("name", type=NETWORK)
@json_option
def show(name: str, as_json: bool) -> None:
    """Show a network's paper, arguments and weights."""
    from cnnzoo.checkpoints.table import list_checkpoints

    one, weights = catalogue.entry(name), list_checkpoints(name)
    if as_json:
        more = {
            "paper": one.paper.citation,
            "url": one.paper.url,
            "options": {own.name: own.default for own in one.arguments},
            "checkpoints": [asdict(own) for own in weights],
        }
        print_json(_entry(one) | more)
        return
    say(f"{name}: {_plainly(one.summary)}")
    say()
    say(f"Paper: {one.paper.citation} {one.paper.url}".rstrip())
    for note in one.notes:
        say(_plainly(note))
    say(f"Images: {'x'.join(map(str, one.input_shape))} (channels, height, width)")
    say(f"Parameters: {one.params:,}")
    say()
    print_table(
        ("argument", "default", "meaning"),
        ((own.name, own.default, _plainly(own.meaning)) for own in one.arguments),
        prose=("default", "meaning"),
    )
    if not weights:
        return
    say()
    print_table(
        ("weights", "top 1", "trained on", "license", "made with"),
        (
            (
                own.tag,
                "" if own.accuracy is None else f"{own.accuracy:.1%}",
                own.data,
                own.license,
                ", ".join(f"{key}={value!r}" for key, value in own.options.items()),
            )
            for own in weights
        ),
        right=("top 1",),
        prose=("trained on", "made with"),
    )
    for own in weights:
        if own.card:
            say()
            say(f"{own.tag}: {_plainly(own.card)}")


@click.command()
@click.argument("name", type=NETWORK)
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
        print_view(summary)


@click.command()
@click.argument("names", nargs=-1, type=NETWORK)
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
            if part.rows:
                print_view(part)
            else:
                say(f"{result.title}: no differences")
            if differences:
                say(result.total)
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


def _entry(one: Entry) -> dict[str, Any]:
    return {
        "name": one.name,
        "family": one.family,
        "summary": one.summary,
        "input_shape": one.input_shape,
        "params": one.params,
        "classic": one.has_classic,
        "weights": one.checkpoints,
    }


def _plainly(text: str) -> str:
    """Documentation as a person reads it: in one line, without the marks of code."""
    return " ".join(text.split()).replace("`", "")


def _create(name: str, classic: bool, settings: Iterable[str]) -> Any:
    import cnnzoo

    options: dict[str, Any] = {"classic": True} if classic else {}
    options |= settings_of(settings)
    return cnnzoo.create(cnnzoo.spec(name).name, device="meta", **options)
