"""How every benchmark measures and reports.

One absolute time says little on a machine that other work shares: the same code takes twice as long a minute later. So
candidates take turns, and each is compared with the reference within the same round; the ratios are the result.
"""

import gc
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from functools import partial, wraps
from pathlib import Path
from statistics import median, quantiles
from typing import Any, TypeVar

import click
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.environment import Environment

RESULTS = Path(__file__).parent / "results"

Name = TypeVar("Name")
Call = Callable[[], object]
Timed = Callable[[Call, int], float]
"""Calls something so often, and says how many seconds that took."""


# Measuring


@dataclass(frozen=True)
class Samples:
    """One number from each round, in the order of the rounds: seconds for one call, or ratios of them.

    Median and quartiles are rounded to four digits, more than such a measurement has.
    """

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return rounded(median(self.values))

    @property
    def quartiles(self) -> tuple[float, float]:
        lower, _, upper = quantiles(self.values, n=4, method="inclusive")
        return rounded(lower), rounded(upper)

    def over(self, reference: "Samples") -> "Samples":
        """The ratio in each round: what slowed a whole round down cancels."""
        return Samples(tuple(a / b for a, b in zip(self.values, reference.values, strict=True)))


def rounded(value: float, digits: int = 4) -> float:
    """To so many digits."""
    return float(f"{value:.{digits}g}")


def take_turns(measures: Mapping[Name, Callable[[], float]], repeats: int) -> dict[Name, Samples]:
    """Let candidates that measure themselves take turns; one more round, at the start, warms up and is thrown away."""
    for measure in measures.values():
        measure()
    names = list(measures)
    taken: dict[Name, list[float]] = {name: [] for name in names}
    for turn in range(repeats):
        first = turn % len(names)  # nobody always runs after the same neighbour's warm caches, or always last
        for name in names[first:] + names[:first]:
            taken[name].append(measures[name]())
    return {name: Samples(tuple(values)) for name, values in taken.items()}


def seconds_per_call(call: Call, min_time: float, timed: Timed) -> float:
    """The mean time of a call, over as many calls as fill `min_time`."""
    calls, batch, elapsed = 0, 1, 0.0
    collecting = gc.isenabled()
    gc.disable()  # as timeit does: a collection would be charged to whoever happens to trigger it
    try:
        while elapsed < min_time or not calls:
            elapsed += timed(call, batch)
            calls += batch
            batch *= 2
    finally:
        if collecting:
            gc.enable()
    return elapsed / calls


def wall_time(call: Call, calls: int, *, synchronize: Callable[[], None] = lambda: None) -> float:
    """By the clock, from an idle device to an idle device."""
    synchronize()
    started = time.perf_counter()
    for _ in range(calls):
        call()
    synchronize()
    return time.perf_counter() - started


def event_time(call: Call, calls: int) -> float:
    """By the clock of the current CUDA device."""
    started, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    started.record()
    for _ in range(calls):
        call()
    ended.record()
    torch.cuda.synchronize()
    return started.elapsed_time(ended) / 1000


def require_same(outputs: Mapping[str, Tensor], tolerance: float, what: str = "scores") -> None:
    """End the command unless all candidates compute the same: otherwise there is nothing to compare.

    Args:
        outputs: of each candidate, for the same input.
        tolerance: how far from the first one's they may be, as a share of its norm.
        what: what they are.
    """
    (first, expected), *others = outputs.items()
    for name, found in others:
        difference = float((found - expected).norm() / expected.norm())
        if not difference < tolerance:
            raise click.ClickException(
                f"{name} computes something else than {first}: the {what} differ by {difference:.1e}"
            )


# Reporting


@dataclass(frozen=True)
class Comparison:
    """Candidates that do the same thing, and the one that the others are compared with."""

    case: str
    reference: str
    samples: dict[str, Samples]

    def ratio(self, candidate: str, to: str | None = None) -> Samples:
        """How many times as long a candidate takes as another, by default the reference."""
        return self.samples[candidate].over(self.samples[to or self.reference])


@dataclass(frozen=True)
class Target:
    """A promise, and what was measured; `unit` follows the numbers where they are printed."""

    what: str
    value: float
    at_most: float = math.inf
    at_least: float = -math.inf
    unit: str = ""

    @property
    def met(self) -> bool:
        return self.at_least <= self.value <= self.at_most

    def __str__(self) -> str:
        limits = (("at most", self.at_most), ("at least", self.at_least))
        wanted = " and ".join(f"{word} {limit:g}{self.unit}" for word, limit in limits if math.isfinite(limit))
        return f"{'met   ' if self.met else 'MISSED'}  {self.what}: {self.value:.4g}{self.unit} ({wanted})"


@dataclass(frozen=True)
class Result:
    """What is kept of one candidate: a line of `results/<name>.jsonl`. Times are seconds for one call."""

    name: str
    case: str
    candidate: str
    median: float
    quartiles: tuple[float, float]
    reference: str
    ratio: float
    ratio_quartiles: tuple[float, float]
    environment: Environment


@dataclass
class Bench:
    """One run of a benchmark: how it measures, and what came of it."""

    name: str
    device: str
    repeats: int
    min_time: float
    comparisons: list[Comparison] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    accuracies: dict[str, float] = field(default_factory=dict)

    def compare(self, case: str, reference: str, candidates: Mapping[str, Call]) -> Comparison:
        """Time candidates against each other; short calls are repeated until they fill the time of a sample."""
        timed = partial(wall_time, synchronize=torch.cuda.synchronize) if self.device == "cuda" else wall_time
        measures = {name: partial(seconds_per_call, call, self.min_time, timed) for name, call in candidates.items()}
        return self.compare_measured(case, reference, measures)

    def compare_measured(self, case: str, reference: str, measures: Mapping[str, Callable[[], float]]) -> Comparison:
        """The same for candidates that measure themselves, such as a process that times its own import."""
        self.comparisons.append(Comparison(case, reference, take_turns(measures, self.repeats)))
        return self.comparisons[-1]

    def target(self, what: str, value: float, **limits: Any) -> None:
        """Hold a measured value to `at_most=` or `at_least=`."""
        self.targets.append(Target(what, value, **limits))

    def ratio(self, one: Comparison, candidate: str, to: str | None = None, **limits: Any) -> None:
        """Hold the time of a candidate over that of another, by default the reference, to a limit."""
        what = f"{one.case}: {candidate} / {to or one.reference}"
        self.target(what, one.ratio(candidate, to).median, **limits)

    def conclude(self, *, check: bool, save: bool) -> None:
        """Print and keep what came of it; with `check`, a missed target ends the program with status 1."""
        console = Console()
        console.print(self.table())
        for target in self.targets:
            console.print(str(target), highlight=False, soft_wrap=True)
        if save:
            RESULTS.mkdir(exist_ok=True)
            with (RESULTS / f"{self.name}.jsonl").open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(line) + "\n" for line in self.lines())
        if check and not all(target.met for target in self.targets):
            raise SystemExit(1)

    def table(self) -> Table:
        """Times and their ratios, or accuracies, for the terminal."""
        if self.accuracies:
            table = Table("weights", "test accuracy", title=self.name)
            for case, share in self.accuracies.items():
                table.add_row(case, f"{share:.4f}")
            return table
        table = Table("case", "candidate", "median", "quartiles", "ratio", "quartiles", title=self.name)
        for one in self.comparisons:
            table.add_section()
            for candidate, taken in one.samples.items():
                ratio = _cells(one.ratio(candidate))
                table.add_row(one.case, candidate, *_cells(taken, *unit(taken.median)), *ratio)
        return table

    def lines(self) -> list[dict[str, Any]]:
        """The same for the file of results."""
        here = Environment.here()
        lines = [
            {"name": self.name, "case": case, "test_accuracy": share, "environment": asdict(here)}
            for case, share in self.accuracies.items()
        ]
        for one in self.comparisons:
            for candidate, taken in one.samples.items():
                ratio = one.ratio(candidate)
                numbers = (taken.median, taken.quartiles, one.reference, ratio.median, ratio.quartiles)
                lines.append(asdict(Result(self.name, one.case, candidate, *numbers, here)))
        return lines


def _cells(samples: Samples, scale: float = 1.0, unit: str = "") -> tuple[str, str]:
    lower, upper = (value * scale for value in samples.quartiles)
    return f"{samples.median * scale:.3g}{unit}", f"{lower:.3g} to {upper:.3g}"


def unit(seconds: float) -> tuple[float, str]:
    """The unit that a time is read in: how many of it make a second, and its name."""
    if seconds >= 1:
        return 1.0, " s"
    return (1e3, " ms") if seconds >= 1e-3 else (1e6, " µs")


# Commands


def benchmark(
    *, repeats: int | None = 7, min_time: float | None = 0.2, device: bool = False, models: Sequence[str] = ()
) -> Callable[[Callable[..., None]], click.Command]:
    """Make a command of a function that takes a `Bench`, and its own options by name.

    Args:
        repeats: rounds, unless `--repeats` says otherwise; None where nothing is timed.
        min_time: seconds of a sample, unless `--min-time` says otherwise; None for candidates that are called once.
        device: whether there is `--device`.
        models: networks that `--models` chooses from, which reach the function as `names`.
    """

    def decorate(function: Callable[..., None]) -> click.Command:
        @wraps(function)
        def command(check: bool, save: bool, **given: Any) -> None:
            measuring = {"device": "cpu", "repeats": 0, "min_time": 0.0}
            bench = Bench(function.__name__, **{name: given.pop(name, value) for name, value in measuring.items()})
            function(bench, **given)
            bench.conclude(check=check, save=save)

        options = [rounds(repeats)] if repeats else []
        if min_time is not None:
            what = "Seconds that one sample takes at least."
            options.append(click.option("--min-time", type=float, default=min_time, show_default=True, help=what))
        options += [on_device()] if device else []
        options += [matching(models)] if models else []
        what = "Append to benchmarks/results/ (the default), or only print."
        options.append(click.option("--save/--no-save", default=True, help=what))
        options.append(click.option("--check", is_flag=True, help="Exit with status 1 if a target is missed."))
        for option in options:
            command = option(command)
        return click.command(function.__name__)(command)

    return decorate


def rounds(default: int) -> Callable[..., Any]:
    """The option `--repeats`."""
    what = "Rounds in which every candidate takes its turn."
    return click.option("--repeats", type=click.IntRange(min=2), default=default, show_default=True, help=what)


def on_device() -> Callable[..., Any]:
    """The option `--device`; without a CUDA device, `cuda` ends the command before it measures anything."""

    def present(context: click.Context, parameter: click.Parameter, device: str) -> str:
        if device == "cuda" and not torch.cuda.is_available():
            click.echo(f"{context.info_name}: skipped, torch finds no CUDA device")
            context.exit()
        return device

    kinds = click.Choice(["cpu", "cuda"])
    return click.option(
        "--device", type=kinds, default="cpu", show_default=True, callback=present, help="Where to run."
    )


def matching(known: Sequence[str]) -> Callable[..., Any]:
    """The option `--models`, which reaches the command as the `names` of the networks to measure, out of `known`."""

    def matched(context: click.Context, parameter: click.Parameter, text: str) -> list[str]:
        patterns = text.split(",")
        names = [name for name in known if any(fnmatchcase(name, pattern) for pattern in patterns)]
        if not names:
            raise click.BadParameter(f"no network matches {text!r}; those that are measured are {', '.join(known)}")
        return names

    what = "Only the networks whose names match, such as 'resnet*' or 'vgg16,vgg19'."
    return click.option("--models", "names", metavar="PATTERN", default="*", callback=matched, help=what)
