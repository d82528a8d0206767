"""Errors as the command line says them: with its options in place of Python's arguments."""

import re

import click

from cnnzoo.errors import CnnzooError

CALL = re.compile(r"\b[a-z_.]+\(([^()]*)\)")
ARGUMENT = re.compile(r"\b([a-z_]+)=(True|False|'[^']*'|\"[^\"]*\"|-?[\w.]+)")


def one_line(error: CnnzooError | OSError, command: click.Command | None) -> str:
    """An error's text without the name of a Python function."""
    return in_options(error.text if isinstance(error, CnnzooError) else str(error), command)


def in_options(text: str, command: click.Command | None) -> str:
    """A text in one line; `hub=True` in it is `--hub` where the command takes that."""
    if command is None:
        return " ".join(text.split())
    names = (name for parameter in command.params for name in parameter.opts if name.startswith("--"))
    options = {name.removeprefix("--").replace("-", "_"): name for name in names}

    def option(argument: re.Match[str]) -> str:
        name, value = argument[1], argument[2].strip("'\"")
        if name not in options:
            return argument[0]
        return {"True": options[name], "False": f"no {options[name]}"}.get(value, f"{options[name]} {value}")

    def call(match: re.Match[str]) -> str:
        arguments = list(ARGUMENT.finditer(match[1]))
        known = arguments and all(one[1] in options for one in arguments)
        return " ".join(map(option, arguments)) if known else match[0]

    return " ".join(ARGUMENT.sub(option, CALL.sub(call, text)).split())
