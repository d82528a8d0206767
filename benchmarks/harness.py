"""How every benchmark measures and reports.

One absolute time says little on a machine that other work shares: the same code takes twice as long a minute later. So
candidates take turns, and each is compared with the reference within the same round; the ratios are the result.
"""

import gc
import json
import math
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial, wraps
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import click
import torch
from rich.console import Console, RenderableType
from rich.table import Table

import cnnzoo
from cnnzoo.recipes.results import processor

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Samples:
    """One number from each round, in the order of the rounds: seconds for one call, or ratios of them.

    Median and quartiles are rounded to four digits, more than such a measurement has.
    """

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return _rounded(median(self.values))

    @property
    def quartiles(self) -> tuple[float, float]:
        lower, _, upper = quantiles(self.values, n=4, method="inclusive")
        return _rounded(lower), _rounded(upper)

    def over(self, reference: "Samples") -> "Samples":
        """The ratio in each round: what slowed a whole round down cancels."""
        return Samples(tuple(a / b for a, b in zip(self.values, reference.values, strict=True)))


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def interleave(
    candidates: Mapping[str, Callable[[], object]],
    *,
    repeats: int = 7,
    min_time: float = 0.2,
    synchronize: Callable[[], None] = lambda: None,
) -> dict[str, Samples]:
    """Time candidates against each other: seconds for one call, one sample for each candidate and round.

    Args:
        candidates: what to call, by name.
        repeats: rounds; one more, at the start, warms everything up and is thrown away.
        min_time: seconds that a sample takes at least; short calls are repeated until they fill it.
        synchronize: waits until the device has done what a call asked of it.
    """
    measures = {name: partial(_seconds, call, min_time, synchronize) for name, call in candidates.items()}
    return take_turns(measures, repeats)


def take_turns(measures: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, Samples]:
    """`interleave` for candidates that measure themselves, such as a process that times its own import."""
    for measure in measures.values():
        measure()
    names = list(measures)
    taken: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(repeats):
        first = turn % len(names)  # nobody always runs after the same neighbour's warm caches, or always last
        for name in names[first:] + names[:first]:
            taken[name].append(measures[name]())
    return {name: Samples(tuple(values)) for name, values in taken.items()}


def _seconds(call: Callable[[], object], min_time: float, synchronize: Callable[[], None]) -> float:
    """The mean time of a call, over as many calls as fill `min_time`."""
    calls, batch, elapsed = 0, 1, 0.0
    synchronize()
    collecting = gc.isenabled()
    gc.disable()  # as timeit does: a collection would be charged to whoever happens to trigger it
    try:
        while elapsed < min_time or not calls:
            started = time.perf_counter()
            for _ in range(batch):
                call()
            synchronize()
            elapsed += time.perf_counter() - started
            calls += batch
            batch *= 2
    finally:
        if collecting:
            gc.enable()
    return elapsed / calls


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
class Environment:
    """Where a measurement was made, as far as it bears on the result; no names of hosts or folders."""

    date: str
    python: str
    versions: dict[str, str]
    threads: int
    cpu: str
    gpu: str | None
    platform: str

    @classmethod
    def here(cls) -> "Environment":
        """This process, now."""
        return cls(
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            python=platform.python_version(),
            versions={"cnnzoo": cnnzoo.__version__} | _versions("torch", "torchvision", "timm", "torchinfo"),
            threads=torch.get_num_threads(),
            cpu=processor(),
            gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            platform=f"{platform.system()} {platform.machine()}",
        )


def _versions(*packages: str) -> dict[str, str]:
    return {package: version(package) for package in packages if find_spec(package)}


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


@dataclass(frozen=True)
class Report:
    """What becomes of a benchmark's outcome: it is printed, kept with `save`, and judged with `check`."""

    check: bool
    save: bool

    def timings(self, name: str, comparisons: Sequence[Comparison], targets: Sequence[Target]) -> None:
        """Report times and their ratios."""
        self.conclude(name, times_table(name, comparisons), times_lines(name, comparisons), targets)

    def conclude(
        self, name: str, table: RenderableType, lines: Sequence[dict[str, Any]], targets: Sequence[Target]
    ) -> None:
        """Report any table; with `--check`, a missed target ends the program with status 1."""
        console = Console()
        console.print(table)
        for target in targets:
            console.print(str(target), highlight=False, soft_wrap=True)
        if self.save:
            RESULTS.mkdir(exist_ok=True)
            with (RESULTS / f"{name}.jsonl").open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(line) + "\n" for line in lines)
        if self.check and not all(target.met for target in targets):
            raise SystemExit(1)


def times_table(title: str, comparisons: Sequence[Comparison]) -> Table:
    """Times and their ratios, for the terminal."""
    table = Table("case", "candidate", "median", "quartiles", "ratio", "quartiles", title=title)
    for one in comparisons:
        table.add_section()
        for candidate, taken in one.samples.items():
            table.add_row(one.case, candidate, *time_cells(taken), *_cells(one.ratio(candidate)))
    return table


def times_lines(name: str, comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Times and their ratios, for the file of results."""
    here = Environment.here()
    lines = []
    for one in comparisons:
        for candidate, taken in one.samples.items():
            ratio = one.ratio(candidate)
            numbers = (taken.median, taken.quartiles, one.reference, ratio.median, ratio.quartiles)
            lines.append(asdict(Result(name, one.case, candidate, *numbers, here)))
    return lines


def time_cells(samples: Samples) -> tuple[str, str]:
    """Median and quartiles in the unit that they are read in."""
    return _cells(samples, *_unit(samples.median))


def _cells(samples: Samples, scale: float = 1.0, unit: str = "") -> tuple[str, str]:
    lower, upper = (value * scale for value in samples.quartiles)
    return f"{samples.median * scale:.3g}{unit}", f"{lower:.3g} to {upper:.3g}"


def _unit(seconds: float) -> tuple[float, str]:
    """The unit that a time is read in: how many of it make a second, and its name."""
    if seconds >= 1:
        return 1.0, " s"
    return (1e3, " ms") if seconds >= 1e-3 else (1e6, " µs")


def repeats(default: int = 7):
    """The option `--repeats`."""
    what = "Rounds in which every candidate takes its turn."
    return click.option("--repeats", type=click.IntRange(min=2), default=default, show_default=True, help=what)


def min_time(default: float = 0.2):
    """The option `--min-time`."""
    what = "Seconds that one sample takes at least."
    return click.option("--min-time", type=float, default=default, show_default=True, help=what)


def device():
    """The option `--device`; without a CUDA device, `cuda` ends the command before it measures anything."""
    kinds = click.Choice(["cpu", "cuda"])
    return click.option(
        "--device", type=kinds, default="cpu", show_default=True, callback=_present, help="Where to run."
    )


def _present(context: click.Context, parameter: click.Parameter, device: str) -> str:
    if device == "cuda" and not torch.cuda.is_available():
        click.echo(f"{context.info_name}: skipped, torch finds no CUDA device")
        context.exit()
    return device


def synchronizer(device: str) -> Callable[[], None]:
    """What waits until a device has done what was asked of it."""
    return torch.cuda.synchronize if device == "cuda" else lambda: None


def reporting(command: Callable[..., None]) -> Callable[..., None]:
    """The options `--check` and `--no-save`, which reach the command as `report`."""

    @click.option("--check", is_flag=True, help="Exit with status 1 if a target is missed.")
    @click.option("--save/--no-save", default=True, help="Append to benchmarks/results/ (the default), or only print.")
    @wraps(command)
    def reported(check: bool, save: bool, **options: Any) -> None:
        command(report=Report(check, save), **options)

    return reported
