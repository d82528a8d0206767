"""Writes what is generated from the registry: `python -m cnnzoo._stubs` (`make stubs`). Tests compare the two.

`zoo.pyi` types `create` and `load_pretrained` by name, since type checkers cannot read a registry. `catalogue.json`
holds what is to be known without importing torch.
"""

import inspect
import json
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path

from cnnzoo import catalogue, zoo
from cnnzoo.registry import ModelSpec, find, specs
from cnnzoo.zoo import create

STUB = Path(zoo.__file__).with_suffix(".pyi")
CATALOGUE = Path(catalogue.__file__).with_suffix(".json")

HEADER = """# Types of `zoo.py`, generated from the registry by `python -m cnnzoo._stubs`; do not edit.

import typing
{imports}
"""


def stub() -> str:
    """The whole file."""
    known = sorted(specs(), key=lambda one: one.name)
    body = "\n".join(
        "\n".join(
            _overloads(function, known) if function.__name__ in ("create", "load_pretrained") else [_plain(function)]
        )
        for function in vars(zoo).values()
        if inspect.isfunction(function) and function.__module__ == zoo.__name__
    )
    unquoted = re.sub(r"'[^']*'", "", body)
    modules = set(re.findall(r"\b(?:\w+\.)*\w+(?=\.[A-Za-z]\w*\b(?!\.))", unquoted)) - {"typing"}
    imports = "".join(f"import {module}\n" for module in sorted(modules))
    return HEADER.format(imports=imports) + body + "\n"


def _overloads(function, known: list[ModelSpec]) -> Iterator[str]:
    """One overload for each network, then those for names, files and repositories that are known at run time only."""
    own = [p for p in inspect.signature(function).parameters.values() if p.name not in ("name", "options")]
    for one in known:
        names = [one.name]
        if function is zoo.load_pretrained:
            names += [f"{one.name}.{tag}" for tag in one.checkpoints]
        parameters = [*one.parameters.values(), *own]
        yield _overload(function, f"typing.Literal[{', '.join(f'{name!r}' for name in names)}]", parameters, one.build)
    vouched = "cnnzoo.registry.ModelName" + (" | pathlib.Path" if function is zoo.load_pretrained else "")
    options = inspect.signature(function).parameters["options"]
    yield _overload(function, vouched, [*own, options], function)
    if function is zoo.load_pretrained:  # any repository of the hub
        hub = {"annotation": bool, "default": inspect.Parameter.empty}
        typed = [p.replace(**hub) if p.name == "hub" else p for p in own]
        yield _overload(function, "str", [*typed, options], function)


def _overload(function, name: str, parameters: list[inspect.Parameter], returns) -> str:
    listed = ", ".join(map(_parameter, parameters))
    result = _annotation(inspect.signature(returns).return_annotation)
    return f"@typing.overload\ndef {function.__name__}(name: {name}, *, {listed}) -> {result}: ..."


def _plain(function) -> str:
    signature = inspect.signature(function)
    listed = ", ".join(map(_parameter, signature.parameters.values()))
    return f"def {function.__name__}({listed}) -> {_annotation(signature.return_annotation)}: ..."


def _parameter(parameter: inspect.Parameter) -> str:
    stars = {parameter.VAR_KEYWORD: "**", parameter.VAR_POSITIONAL: "*"}.get(parameter.kind, "")
    kind = _annotation(parameter.annotation)
    default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
    return f"{stars}{parameter.name}: {kind}{default}"


def _annotation(kind: typing.Any) -> str:
    """A type as it is written, the same under every version of Python."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return f"typing.Literal[{', '.join(map(repr, args))}]"
    if origin in (typing.Union, types.UnionType):
        return " | ".join(map(_annotation, args))
    if origin is not None:
        return f"{_annotation(origin)}[{', '.join(map(_annotation, args))}]"
    if kind in (None, types.NoneType):
        return "None"
    if kind is ...:
        return "..."
    name = f"{kind.__module__}.{kind.__qualname__ if hasattr(kind, '__qualname__') else kind.__name__}"
    return name.removeprefix("builtins.").replace("pathlib._local.", "pathlib.")


GENERAL = {
    "num_classes": "number of scores; 0 ends the network at its features.",
    "in_channels": "channels of the images.",
}
"""What arguments mean of which neither a constructor nor its class says more."""


def catalogued() -> str:
    """The whole `catalogue.json`, a line for each network or block."""
    lines = (json.dumps(_catalogued(one), ensure_ascii=False) for one in specs())
    return "[\n" + ",\n".join(lines) + "\n]\n"


def _catalogued(one: ModelSpec) -> dict[str, typing.Any]:
    summary, *rest = _sections(one.build)
    made = inspect.signature(one.build).return_annotation
    of_class = _meanings(made) if made.__module__.startswith("cnnzoo.models.") else {}
    meanings = GENERAL | of_class | _meanings_of(one)
    return {
        "name": one.name,
        "family": one.family,
        "kind": one.kind,
        "paper": one.paper.key,
        "input_shape": one.input_shape,
        "params": sum(parameter.numel() for parameter in create(one.name, device="meta").parameters()),
        "summary": LIKE.sub("", summary).rstrip(".;, ") + ".",
        "notes": [" ".join(text.split()) for text in rest if not re.match("(Args|Raises|Returns|Examples):", text)],
        "arguments": {name: (repr(own.default), meanings[name]) for name, own in one.parameters.items()},
    }


LIKE = re.compile(r"[;.]? (?:[Aa]rguments as for|As) `(\w+)`")
"""How a constructor says that its arguments are those of another one."""


def _meanings_of(one: ModelSpec) -> dict[str, str]:
    """What a constructor's arguments mean, where it says so, or the one does that it names."""
    like = LIKE.search(inspect.getdoc(one.build) or "")
    return (_meanings_of(find(like[1])) if like else {}) | _meanings(one.build)


def _meanings(documented: typing.Any) -> dict[str, str]:
    """The arguments that a docstring explains."""
    section = next((text for text in _sections(documented) if text.startswith("Args:\n")), "")
    arguments = re.findall(r"^    (\w+): (.*(?:\n     .*)*)", section, re.MULTILINE)
    return {name: " ".join(meaning.split()) for name, meaning in arguments}


def _sections(documented: typing.Any) -> list[str]:
    """The paragraphs of a docstring."""
    return (inspect.getdoc(documented) or "").split("\n\n")


if __name__ == "__main__":
    STUB.write_text(stub(), "utf-8")
    CATALOGUE.write_text(catalogued(), "utf-8")
    print(f"wrote {STUB.name} and {CATALOGUE.name}")
