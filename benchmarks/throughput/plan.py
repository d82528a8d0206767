"""What is measured, and in which order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import product
from typing import Literal

import torch

import cnnzoo
from benchmarks.peers import Library, has

Mode = Literal["infer", "train"]

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""`tf32` is single precision whose products CUDA rounds to TensorFloat-32, as torch lets convolutions by default."""


@dataclass(frozen=True)
class Execution:
    """How a network is run.

    Attributes:
        modes: what can be run so.
        devices: and where.
        peers: whether other libraries' networks are run so, too.
        slow: whether it takes seconds to minutes to prepare.
    """

    modes: tuple[Mode, ...] = ("infer", "train")
    devices: tuple[str, ...] = ("cpu", "cuda")
    peers: bool = True
    slow: bool = False


EXECUTIONS = {
    "eager": Execution(),
    "channels_last": Execution(),
    "cudagraphs": Execution(devices=("cuda",), peers=False),
    "compiled": Execution(slow=True),
    "autotuned": Execution(modes=("infer",), slow=True),
    "optimized": Execution(modes=("infer",), peers=False, slow=True),
}

TOGETHER = (("eager", "channels_last", "cudagraphs"), ("eager", "optimized", "autotuned"), ("eager", "compiled"))
"""What takes turns: all others beside eager, and what we make of a network beside the most that torch makes of a
peer's."""

HEADLINE = ("resnet50", "vgg16", "lenet5", "alexnet", "resnet18", "googlenet", "inception_v3", "resnet152")
"""The networks that come first."""

DEFAULTS = {
    ("cpu", "infer"): ("eager", "channels_last", "optimized"),
    ("cpu", "train"): ("eager",),
    ("cuda", "infer"): tuple(EXECUTIONS),
    ("cuda", "train"): ("eager", "channels_last", "cudagraphs"),
}
DEFAULT_DTYPES = {"cpu": ("fp32",), "cuda": ("bf16", "tf32")}

SLOW = {
    "cpu": {"optimized": ("*",), "compiled": HEADLINE, "autotuned": HEADLINE[:2]},
    "cuda": {"optimized": HEADLINE[:5], "compiled": HEADLINE, "autotuned": HEADLINE[:2]},
}
"""The networks that a slow execution is measured on by default, as patterns; those of the papers are called
`resnet50-classic`. On CUDA `optimize` tries the compiler, which takes minutes."""

OURS = "cnnzoo"


@dataclass(frozen=True)
class Candidate:
    """A library's network, run in a way."""

    library: str
    execution: str


@dataclass(frozen=True)
class Workload:
    """What candidates that take turns have to do; `batch` is the one asked for, None for one that is searched for."""

    network: str
    classic: bool
    mode: Mode
    dtype: str
    candidates: tuple[Candidate, ...]
    batch: int | None = None

    @property
    def title(self) -> str:
        return f"{self.network}{' (classic)' if self.classic else ''}, {self.mode}, {self.dtype}"

    @property
    def setting(self) -> tuple[str, bool, str, str]:
        """What a batch is searched for."""
        return self.network, self.classic, self.mode, self.dtype


@dataclass(frozen=True)
class Choice:
    """What the caller asked for.

    Attributes:
        against: the libraries to compare with.
        executions: None for the defaults of device and mode.
        slow: the networks to compile, as patterns; None for the defaults of the device.
    """

    device: str
    names: Sequence[str]
    modes: Sequence[Mode]
    dtypes: Sequence[str]
    against: Sequence[Library]
    executions: Sequence[str] | None = None
    slow: Sequence[str] | None = None
    batch: int | None = None


def plan(choice: Choice) -> list[Workload]:
    """Everything, what matters most first.

    Every network comes once, in the first dtype and mode and in the quick executions; then, in these, the slow
    executions; then every network in the other modes and dtypes, without the slow executions.
    """
    first, *others = product(choice.dtypes, choice.modes)
    quick, *slow = TOGETHER
    settings = [(*first, quick), *((*first, together) for together in slow), *((*one, quick) for one in others)]
    return [workload for setting in settings for workload in _workloads(choice, *setting)]


def _workloads(choice: Choice, dtype: str, mode: Mode, together: Sequence[str]) -> Iterator[Workload]:
    """One for each network, with those of its executions that can take turns and are asked for."""
    asked = choice.executions or DEFAULTS[choice.device, mode]
    kinds = {name: EXECUTIONS[name] for name in together if name in asked}
    kinds = {name: one for name, one in kinds.items() if mode in one.modes and choice.device in one.devices}
    for name, classic in variants(choice.names):
        label = f"{name}-classic" if classic else name
        fitting = [one for one, kind in kinds.items() if not kind.slow or _compiled(choice, label, one)]
        if fitting == ["eager"] and together != TOGETHER[0]:
            continue  # it has had its turn
        candidates = [Candidate(OURS, one) for one in fitting]
        for library in () if classic else choice.against:
            if has(library, name):
                candidates += [Candidate(library, one) for one in fitting if kinds[one].peers]
        if candidates:
            yield Workload(name, classic, mode, dtype, tuple(candidates), choice.batch)


def variants(names: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """The networks, those of the headlines first, each with the one that its paper printed after it."""
    for name in sorted(names, key=lambda name: (HEADLINE.index(name) if name in HEADLINE else len(HEADLINE), name)):
        yield name, False
        if cnnzoo.spec(name).has_classic:
            yield name, True


def _compiled(choice: Choice, label: str, execution: str) -> bool:
    patterns = SLOW[choice.device][execution] if choice.slow is None else choice.slow
    return any(fnmatchcase(label, pattern) for pattern in patterns)
