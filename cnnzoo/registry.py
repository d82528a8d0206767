"""The registry: what networks and blocks there are, what paper each is from, and what options it takes."""

import functools
import importlib
import inspect
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, NewType, ParamSpec, SupportsIndex, TypeVar, Union, get_args, get_origin

from torch import nn

from cnnzoo.catalogue import Kind, Paper, matching, no_network, tags
from cnnzoo.construction import construct
from cnnzoo.errors import OptionError, operation, suggestion
from cnnzoo.support.files import plain

P = ParamSpec("P")
M = TypeVar("M", bound=nn.Module)

ModelName = NewType("ModelName", str)
"""A string that the registry vouches for: what `list_models` and `spec` give, and `create` takes besides literals."""

_specs: dict[str, "ModelSpec"] = {}


@dataclass(frozen=True)
class Config:
    """How a network was made: the constructor's registered name and every argument."""

    name: str
    options: dict[str, Any]

    @property
    def classic(self) -> bool:
        return bool(self.options.get("classic", False))


ADAPTABLE = frozenset({"num_classes", "in_channels", "dropout", "aux"})
"""Arguments in which a network may differ from the one that its weights were made with."""
READING = ("charset", "length", "image_size")
"""Likewise of a network that reads CAPTCHAs: its last layer follows from them."""


@dataclass(frozen=True)
class ModelSpec:
    """What the registry knows about a network or a block.

    Attributes:
        name: what `create` calls it.
        family: the file it stands in, such as `lenet`.
        kind: `"model"`, or `"block"` for a part of one.
        paper: the publication.
        input_shape: (C, H, W) of the images that the default network is made for.
        build: the public constructor.
        constructor: the same, but its tensors are wherever torch puts them and initialised by torch's layers;
            `cnnzoo.construction` places and initialises them.
    """

    name: ModelName
    family: str
    kind: Kind
    paper: Paper
    input_shape: tuple[int, int, int]
    build: Callable[..., nn.Module]
    constructor: Callable[..., nn.Module]

    def __reduce__(self) -> tuple[Callable[[str, str], "ModelSpec"], tuple[str, str]]:
        return _registered, (self.name, self.build.__module__)

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The constructor's parameters by name."""
        return inspect.signature(self.build).parameters

    @property
    def has_classic(self) -> bool:
        """Whether `classic=True` builds another network: the one exactly as its paper printed it."""
        return "classic" in self.parameters

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """The tags of the published weights, the default first."""
        return tags(self.name)

    @property
    def summary(self) -> str:
        """The first line of the constructor's documentation."""
        return (inspect.getdoc(self.build) or "").partition("\n")[0]

    def reads_others(self, made_with: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
        """Whether a CAPTCHA network is asked to read other texts, or images of another size, than it was trained on."""
        defaults = {name: one.default for name, one in self.parameters.items() if name in READING}
        known = plain({name: made_with.get(name, default) for name, default in defaults.items()})
        return "charset" in known and any(plain(asked[name]) != known[name] for name in defaults if name in asked)

    def is_same(self, made_with: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
        """Whether two sets of arguments differ at most in what weights can be adapted to."""
        adaptable = ADAPTABLE.union(READING) if "charset" in self.parameters else ADAPTABLE
        defaults = {name: one.default for name, one in self.parameters.items() if name not in adaptable}

        def fixed(options: Mapping[str, Any]) -> dict[str, Any]:
            return plain({name: options.get(name, default) for name, default in defaults.items()})

        return fixed(made_with) == fixed(asked)

    @staticmethod
    def shown(options: Mapping[str, Any]) -> str:
        """Arguments, for a message."""
        return ", ".join(f"{name}={value!r}" for name, value in options.items()) or "its default arguments"

    def check(self, options: Mapping[str, Any], where: str = "") -> None:
        """Raise `OptionError` unless the constructor takes these options, which stand in a file or the like."""
        before = f"{where}: " if where else ""
        for option in options:
            if option in self.parameters:
                continue
            if option == "classic":
                raise OptionError(
                    f"{before}{self.name} takes no classic=, which would change nothing: it has one variant"
                )
            if option in ("pretrained", "weights"):
                raise OptionError(
                    f"{before}{self.name}: takes no {option}=, its weights are random; "
                    f"load_pretrained({str(self.name)!r}, hub=True) gives it with trained ones"
                )
            raise OptionError(
                f"{before}{self.name}: unknown option {option!r}: {suggestion(option, self.parameters)} "
                f"It takes {', '.join(self.parameters)}."
            )


LEAST = {"num_classes": 0, "padding": 0}
"""What whole numbers that a constructor takes are at least, other than 1."""


def checked(name: str, parameter: inspect.Parameter, value: Any) -> Any:
    """A value for an argument of a constructor, where it takes a truth value, a whole number or a number.

    Raises:
        OptionError: it is of another kind, or too small.
    """
    kinds = {parameter.annotation}
    if get_origin(parameter.annotation) in (Union, UnionType):
        kinds = set(get_args(parameter.annotation))
    if value is None and NoneType in kinds:
        return value
    kind = next(iter(kinds - {NoneType}), None)
    wanted = ""
    if kind is bool:
        wanted = "" if isinstance(value, bool) else "True or False"
    elif kind is int:
        least = LEAST.get(parameter.name, 1)
        if isinstance(value, SupportsIndex) and not isinstance(value, bool):
            value = operator.index(value)
        wanted = "" if type(value) is int and value >= least else f"a whole number of at least {least}"
    elif kind is float:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
        if parameter.name == "dropout":
            wanted = "" if 0 <= number <= 1 else "a number from 0 to 1"
        else:
            wanted = "" if math.isfinite(number) else "a number"
    if wanted:
        raise OptionError(f"{name}: got {parameter.name}={value!r}, expected {wanted}")
    return value


def _registered(name: str, module: str) -> ModelSpec:
    """The spec of another process, which is here what the same module registers."""
    importlib.import_module(module)
    return spec(name)


@operation
def register(
    paper: Paper, *, input_shape: tuple[int, int, int], kind: Kind = "model"
) -> Callable[[Callable[P, M]], Callable[P, M]]:
    """Register a constructor under its own name.

    The function it returns has the constructor's own signature, builds without doing any work twice (see
    `cnnzoo.construction`) and notes name and arguments on the network as `config`.

    Raises:
        OptionError: the name is taken, or a parameter could be given by position.

    Examples:
        >>> import cnnzoo
        >>> @cnnzoo.register(cnnzoo.Paper("lenet"), input_shape=(1, 28, 28))  # doctest: +SKIP
        ... def my_lenet(*, num_classes: int = 10) -> cnnzoo.CNN:
        ...     return cnnzoo.lenet5(num_classes=num_classes, activation="relu")
    """

    def decorate(function: Callable[P, M]) -> Callable[P, M]:
        name = ModelName(function.__name__)
        if name in _specs:
            raise OptionError(f"the name {name!r} is taken by {_specs[name].build.__module__}")
        signature = inspect.signature(function)
        for parameter in signature.parameters.values():
            if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
                raise OptionError(f"{name}: parameter {parameter} is not keyword-only; put * before it")

        def constructor(*args: P.args, **options: P.kwargs) -> M:
            bound = signature.bind(*args, **options)
            bound.apply_defaults()
            for option, value in bound.arguments.items():
                bound.arguments[option] = checked(name, signature.parameters[option], value)
            model = function(*bound.args, **bound.kwargs)
            vars(model)["config"] = Config(name, dict(bound.arguments))
            return model

        @functools.wraps(function)
        def build(*args: P.args, **options: P.kwargs) -> M:
            return construct(functools.partial(constructor, *args, **options))

        family = function.__module__.rpartition(".")[2]
        _specs[name] = ModelSpec(name, family, kind, paper, input_shape, build, constructor)
        return build

    decorate.__name__ = "register"  # with which its errors begin
    return operation(decorate)


def specs() -> Iterator[ModelSpec]:
    """Everything that is registered, in the order of the model files; importing `cnnzoo.models` registers them."""
    yield from _specs.values()


@operation
def spec(name: str) -> ModelSpec:
    """Look up what the registry knows about a network or block.

    Raises:
        UnknownNameError: there is none of that name; the message offers the nearest ones.

    Examples:
        >>> import cnnzoo
        >>> cnnzoo.spec("vgg16").family, cnnzoo.spec("vgg16").input_shape
        ('vgg', (3, 224, 224))
    """
    return find(name)


def find(name: str, where: str = "") -> ModelSpec:
    """`spec` for a name that stands in a file or the like, which the error names."""
    if name not in _specs:
        raise no_network(name, _specs, where)
    return _specs[name]


def resolve(model: nn.Module | str, options: Mapping[str, Any]) -> nn.Module:
    """What a question about a network is about: the network itself, or a registered one, outlined on the meta device.

    Args:
        model: a network, or the name of a registered one.
        options: arguments of the named network's constructor; a network that is given takes none.

    Raises:
        UnknownNameError: no network has that name.
        OptionError: the named network does not have such an option, or `model` is no network.
    """
    if isinstance(model, str):
        known = find(model)
        known.check(options)
        return construct(functools.partial(known.constructor, **options), device="meta")
    if not isinstance(model, nn.Module):
        raise OptionError(f"got {type(model).__name__} where a network (nn.Module) or a registered name belongs")
    if options:
        raise OptionError(
            f"got {', '.join(f'{option}=' for option in options)} with a network that is built already; "
            "options go with a registered name"
        )
    return model


@operation
def list_models(
    pattern: str = "*",
    *,
    family: str | None = None,
    kind: Kind | None = "model",
    pretrained: bool | None = None,
    classic: bool | None = None,
) -> list[ModelName]:
    """List the names of the registered networks, sorted as people count: `resnet18` before `resnet101`.

    Args:
        pattern: shell-style, such as `"resnet*"`.
        family: only this family, such as `"lenet"`.
        kind: `"model"`, `"block"`, or None for both.
        pretrained: only those with (True) or without (False) published weights.
        classic: only those with (True) or without (False) a `classic=True` variant.

    Raises:
        UnknownNameError: there is no such family.

    Examples:
        >>> import cnnzoo
        >>> cnnzoo.list_models("vgg1?")
        ['vgg11', 'vgg13', 'vgg16', 'vgg19']
    """
    found = matching(specs(), pattern, family=family, kind=kind, pretrained=pretrained, classic=classic)
    return [one.name for one in found]
