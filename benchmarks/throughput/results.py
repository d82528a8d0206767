"""The file of results: JSON lines of three kinds, each written when it is known.

A line `run` says where the lines after it were measured; a line `limit` has the rate of large matrices there; a line
`case` says what came of one candidate.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.environment import Environment
from benchmarks.harness import RESULTS, Samples
from benchmarks.throughput.plan import OURS, Candidate, Workload

COMPARED = ("cnnzoo", "torch", "torchvision", "timm")
"""The packages whose versions must be the same for a result to stand."""

Key = tuple[Any, ...]


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
    def machine(self) -> Key:
        """What has to be the same for rates to be comparable."""
        return self.device, self.hardware, self.environment.threads if self.device == "cpu" else 0

    @property
    def place(self) -> Key:
        """What has to be the same for a result to stand."""
        return *self.machine, *(self.environment.versions.get(package) for package in COMPARED)


@dataclass(frozen=True)
class Matmul:
    """Multiply-adds per second of large matrices, and the clock in MHz right after them."""

    run: str
    dtype: str
    macs_per_second: float
    clock: int | None = None


@dataclass(frozen=True)
class Measurement:
    """What came of one candidate.

    Attributes:
        group: number of the workload in its run; candidates of one took turns, so that their rounds are comparable.
        batch: images at a time, on each device.
        status: "measured"; "out of memory" at this batch; or "failed".
        asked: the batch that was asked for, or None where it was searched for.
        devices: how many of them worked side by side.
        rates: images per second, of all devices together, in each round.
        macs: multiply-adds of a forward for one image.
        peak_bytes: the most device memory, weights included, batches of images not; None where that is not known.
        detail: what the execution chose: memory format, compiler's mode or backend.
        error: the first line of what was raised.
    """

    run: str
    group: int
    network: str
    classic: bool
    mode: str
    dtype: str
    library: str
    execution: str
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
    def setting(self) -> tuple[str, bool, str, str]:
        """What a batch is searched for."""
        return self.network, self.classic, self.mode, self.dtype

    @property
    def key(self) -> Key:
        """What tells measurements apart, wherever they are made."""
        return *self.setting, self.asked, Candidate(self.library, self.execution), self.devices

    @property
    def measured(self) -> bool:
        return self.status == "measured"

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


def keys(workload: Workload, devices: int = 1) -> list[Key]:
    """Those of the measurements that come of a workload."""
    return [(*workload.setting, workload.batch, candidate, devices) for candidate in workload.candidates]


@dataclass(frozen=True)
class Results:
    """What a file holds, in its order."""

    runs: dict[str, Run]
    matmuls: list[Matmul]
    measurements: list[Measurement]

    def at(self, place: Key) -> list[Measurement]:
        """The measurements of runs in one place."""
        return [one for one in self.measurements if self.runs[one.run].place == place]

    def finished(self, place: Key) -> set[Key]:
        """The keys of what need not be measured again there."""
        return {one.key for one in self.at(place) if one.finished}

    def batches(self, place: Key) -> dict[Key, int]:
        """The batches that were searched for there, by setting."""
        found = (one for one in self.at(place) if one.asked is None and one.measured and one.library == OURS)
        return {one.setting: one.batch for one in found}


Record = Run | Matmul | Measurement
KINDS: dict[str, type[Record]] = {"run": Run, "limit": Matmul, "case": Measurement}
IN_FILE = {"execution": "way"}
"""What a field is called in the file, where that is something else."""


class Journal:
    """Appends to a file of results, and reads what it holds; without a path it keeps nothing."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def write(self, records: Iterable[Record]) -> None:
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


def _line(record: Record) -> dict[str, Any]:
    kind = next(kind for kind, type_ in KINDS.items() if isinstance(record, type_))
    stated = {IN_FILE.get(name, name): value for name, value in asdict(record).items()}
    return {"kind": kind} | {name: value for name, value in stated.items() if value not in ("", (), None)}


def _record(kind: str, line: dict[str, Any]) -> Record:
    stated = {name: line.pop(other) for name, other in IN_FILE.items() if other in line} | line
    if kind == "run":
        stated["environment"] = Environment(**stated["environment"])
    if kind == "case":
        stated["rates"] = tuple(stated.get("rates", ()))
    return KINDS[kind](**stated)
