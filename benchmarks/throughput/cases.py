"""What is measured, and in which order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import product
from typing import Literal

import torch

import cnnzoo
from cnnzoo.checkpoints.layouts import TABLES

Mode = Literal["infer", "train"]

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""`tf32` is single precision whose products CUDA rounds to TensorFloat-32, as torch lets convolutions by default."""


@dataclass(frozen=True)
class Way:
    """How a network is run.

    Attributes:
        modes: what can be run so.
        devices: and where.
        peers: whether other libraries' networks are run so, too.
        patient: whether it takes seconds to minutes to prepare.
    """

    modes: tuple[Mode, ...] = ("infer", "train")
    devices: tuple[str, ...] = ("cpu", "cuda")
    peers: bool = True
    patient: bool = False


WAYS = {
    "eager": Way(),
    "channels_last": Way(),
    "cudagraphs": Way(devices=("cuda",), peers=False),
    "compiled": Way(patient=True),
    "autotuned": Way(modes=("infer",), patient=True),
    "optimized": Way(modes=("infer",), peers=False, patient=True),
}

TOGETHER = (("eager", "channels_last", "cudagraphs"), ("eager", "optimized", "autotuned"), ("eager", "compiled"))
"""The ways that take turns with one another: all others beside eager, and what we make of a network beside the most
that torch makes of a peer's."""

HEADLINE = ("resnet50", "vgg16", "lenet5", "alexnet", "resnet18", "googlenet", "inception_v3", "resnet152")
"""The networks that come first."""

DEFAULT_WAYS = {
    ("cpu", "infer"): ("eager", "channels_last", "optimized"),
    ("cpu", "train"): ("eager",),
    ("cuda", "infer"): tuple(WAYS),
    ("cuda", "train"): ("eager", "channels_last", "cudagraphs"),
}
DEFAULT_DTYPES = {"cpu": ("fp32",), "cuda": ("bf16", "tf32")}

PATIENT = {
    "cpu": {"optimized": ("*",), "compiled": HEADLINE, "autotuned": HEADLINE[:2]},
    "cuda": {"optimized": HEADLINE[:5], "compiled": HEADLINE, "autotuned": HEADLINE[:2]},
}
"""The networks that a patient way is measured on by default, as patterns; those of the papers are called
`resnet50-classic`. On CUDA `optimize` tries the compiler, which takes minutes."""


@dataclass(frozen=True)
class Candidate:
    """A library's network, run in a way."""

    library: str
    way: str


OURS = "cnnzoo"


@dataclass(frozen=True)
class Group:
    """Candidates that do the same work and take turns.

    Attributes:
        classic: whether the network is the one that its paper printed.
        asked: the batch, or None for one that is searched for.
    """

    network: str
    classic: bool
    mode: Mode
    dtype: str
    candidates: tuple[Candidate, ...]
    asked: int | None = None

    @property
    def title(self) -> str:
        return f"{self.network}{' (classic)' if self.classic else ''}, {self.mode}, {self.dtype}"


@dataclass(frozen=True)
class Choice:
    """What the caller asked for.

    Attributes:
        against: the libraries to compare with.
        ways: None for the defaults of device and mode.
        patient: the networks to compile, as patterns; None for the defaults of the device.
    """

    device: str
    names: Sequence[str]
    modes: Sequence[Mode]
    dtypes: Sequence[str]
    against: Sequence[str]
    ways: Sequence[str] | None = None
    patient: Sequence[str] | None = None
    batch: int | None = None


def plan(choice: Choice) -> list[Group]:
    """All groups, what matters most first.

    Every network comes once, in the first dtype and mode and in the quick ways; then, in these, the patient ways;
    then every network in the other modes and dtypes, without the patient ways.
    """
    first, *others = product(choice.dtypes, choice.modes)
    quick, *patient = TOGETHER
    groups = list(_groups(choice, *first, quick))
    for ways in patient:
        groups += _groups(choice, *first, ways)
    for dtype, mode in others:
        groups += _groups(choice, dtype, mode, quick)
    return groups


def _groups(choice: Choice, dtype: str, mode: Mode, together: Sequence[str]) -> Iterator[Group]:
    """One for each network, with those of its ways that can take turns and are asked for."""
    asked = choice.ways or DEFAULT_WAYS[choice.device, mode]
    fitting = [way for way in together if way in asked and mode in WAYS[way].modes]
    fitting = [way for way in fitting if choice.device in WAYS[way].devices]
    for name, classic in variants(choice.names):
        label = f"{name}-classic" if classic else name
        ways = [way for way in fitting if not WAYS[way].patient or _compiled(choice, label, way)]
        if ways == ["eager"] and together != TOGETHER[0]:
            continue  # it has had its turn
        candidates = [Candidate(OURS, way) for way in ways]
        for library in () if classic else choice.against:
            if name in TABLES[library]:
                candidates += [Candidate(library, way) for way in ways if WAYS[way].peers]
        if candidates:
            yield Group(name, classic, mode, dtype, tuple(candidates), choice.batch)


def variants(names: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """The networks, those of the headlines first, each with the one that its paper printed behind it."""
    for name in sorted(names, key=lambda name: (HEADLINE.index(name) if name in HEADLINE else len(HEADLINE), name)):
        yield name, False
        if cnnzoo.spec(name).has_classic:
            yield name, True


def _compiled(choice: Choice, label: str, way: str) -> bool:
    patterns = PATIENT[choice.device][way] if choice.patient is None else choice.patient
    return any(fnmatchcase(label, pattern) for pattern in patterns)
