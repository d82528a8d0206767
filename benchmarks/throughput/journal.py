"""The file of results: JSON lines of three kinds, each written when it is known.

A line `run` says where the lines after it were measured; a line `limit` says what the device reached there with large
matrices; a line `case` says what came of one candidate.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.environment import Environment
from benchmarks.harness import RESULTS, Samples
from benchmarks.throughput.cases import OURS, Candidate, Group

COMPARED = ("cnnzoo", "torch", "torchvision", "timm")
"""The packages whose versions must be the same for a result to stand."""


@dataclass(frozen=True)
class Run:
    """One start of the program.

    Attributes:
        run: what its other lines call it.
        device: cpu or cuda.
        settings: what bears on the results besides the environment.
    """

    run: str
    device: str
    environment: Environment
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def hardware(self) -> str:
        """The processor or the GPU, by name."""
        return (self.environment.gpu if self.device == "cuda" else self.environment.cpu) or self.device

    @property
    def place(self) -> tuple[Any, ...]:
        """What has to be the same for results to be comparable, and for one to be skipped."""
        versions = {package: self.environment.versions.get(package) for package in COMPARED}
        threads = self.environment.threads if self.device == "cpu" else None
        return self.device, self.hardware, threads, tuple(versions.items())


@dataclass(frozen=True)
class Limit:
    """Multiply-accumulates per second of large matrices, and the clock in MHz right after them."""

    run: str
    dtype: str
    macs_per_second: float
    clock: int | None = None


@dataclass(frozen=True)
class Case:
    """What came of one candidate.

    Attributes:
        group: number of the group in its run; candidates of a group took turns, so that their rounds are comparable.
        batch: pictures at a time, on each device.
        status: "measured"; "out of memory" at this batch; or "failed".
        asked: the batch that was asked for, or None where it was searched for.
        devices: how many of them worked side by side.
        rates: images per second, of all devices together, in each round.
        macs: multiply-accumulates of a forward for one picture.
        peak_bytes: the most device memory, weights included, batches of pictures not; None where that is not known.
        detail: what the way chose: memory format, compiler's mode or backend.
        error: the first line of what was raised.
    """

    run: str
    group: int
    network: str
    classic: bool
    mode: str
    dtype: str
    library: str
    way: str
    batch: int
    status: str
    asked: int | None = None
    devices: int = 1
    rates: tuple[float, ...] = ()
    macs: int = 0
    peak_bytes: int | None = None
    detail: str = ""
    error: str = ""

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells cases apart, wherever they are measured."""
        of = (self.network, self.classic, self.mode, self.dtype)
        return *of, self.asked, Candidate(self.library, self.way), self.devices

    @property
    def finished(self) -> bool:
        """Whether there is nothing more to find out; one that does not fit is tried with a smaller batch."""
        return self.status != "out of memory" or self.batch == 1

    @cached_property
    def samples(self) -> Samples:
        return Samples(self.rates)

    @property
    def rate(self) -> float:
        """Images per second, the median of the rounds."""
        return self.samples.median


def keys(group: Group, devices: int = 1) -> list[tuple[Any, ...]]:
    """Those of the cases that come of a group."""
    of = (group.network, group.classic, group.mode, group.dtype, group.asked)
    return [(*of, candidate, devices) for candidate in group.candidates]


def significant(rate: float) -> float:
    """To five digits, more than a measurement has."""
    return float(f"{rate:.5g}")


@dataclass(frozen=True)
class Results:
    """What a file holds, in its order."""

    runs: dict[str, Run]
    limits: list[Limit]
    cases: list[Case]

    def at(self, place: tuple[Any, ...]) -> list[Case]:
        """The cases of runs in one place."""
        return [case for case in self.cases if self.runs[case.run].place == place]

    def finished(self, place: tuple[Any, ...]) -> set[tuple[Any, ...]]:
        """The keys of the cases that need not be measured again there."""
        return {case.key for case in self.at(place) if case.finished}

    def batches(self, place: tuple[Any, ...]) -> dict[tuple[Any, ...], int]:
        """The batches that were searched for there, by network, variant, mode and dtype."""
        return {
            case.key[:4]: case.batch
            for case in self.at(place)
            if case.asked is None and case.status == "measured" and case.library == OURS
        }


class Journal:
    """Appends to a file of results, and reads what it holds; without a path it keeps nothing."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def write(self, records: Iterable[Run | Limit | Case]) -> None:
        """Append, at once: a signal finds all of these lines written or none."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(_line(record)) + "\n" for record in records)
        with self.path.open("ab+", buffering=0) as file:
            if file.tell() and self.path.read_bytes()[-1:] != b"\n":  # a program was killed in the middle of a line
                text = "\n" + text
            file.write(text.encode())

    def read(self) -> Results:
        """What the file holds; lines that were not written to their end are passed over."""
        return read([self.path] if self.path and self.path.exists() else [])


KINDS = {"run": Run, "limit": Limit, "case": Case}


def read(paths: Iterable[Path]) -> Results:
    """The results of some files together; lines of other kinds are passed over."""
    found: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    for path in paths:
        for text in path.read_text("utf-8").splitlines():
            try:
                line = json.loads(text)
            except json.JSONDecodeError:
                continue
            kind = line.pop("kind", "")
            if kind in KINDS:
                found[kind].append(_record(kind, line))
    return Results({run.run: run for run in found["run"]}, found["limit"], found["case"])


def files(folder: Path = RESULTS) -> list[Path]:
    """The files of results, by device."""
    return sorted(folder.glob("throughput-*.jsonl"))


def _line(record: Run | Limit | Case) -> dict[str, Any]:
    kind = next(kind for kind, type_ in KINDS.items() if isinstance(record, type_))
    left_out = ("", (), None)
    return {"kind": kind} | {name: value for name, value in asdict(record).items() if value not in left_out}


def _record(kind: str, line: dict[str, Any]) -> Run | Limit | Case:
    if kind == "run":
        line["environment"] = Environment(**line["environment"])
    if kind == "case":
        line["rates"] = tuple(line.get("rates", ()))
    return KINDS[kind](**line)
