"""The tables of throughput, as Markdown."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from benchmarks.harness import Samples, Target
from benchmarks.report.markdown import table
from benchmarks.report.measured import PAIRS, PEERS, Machine, Pair, Row
from benchmarks.throughput.cases import HEADLINE, WAYS
from benchmarks.throughput.journal import Case

MODES = {"infer": "inference", "train": "training step"}
EAGER = [Pair(library, "eager", "eager") for library in PEERS]
WAY_NAMES = {way: way.replace("_", " ") for way in WAYS} | {"cudagraphs": "CUDA graph", "optimized": "`optimize`"}


@dataclass(frozen=True)
class Remark:
    """A reason for what a library's network reaches beside ours."""

    networks: Sequence[str]
    against: str
    text: str

    def holds(self, network: str, library: str) -> bool:
        return library == self.against and any(fnmatchcase(network, pattern) for pattern in self.networks)


@dataclass(frozen=True)
class Published:
    """A rate that somebody has printed, in images per second, and how many times as fast we promise to be."""

    networks: Sequence[str]
    mode: str
    device: str
    rate: float
    source: str
    at_least: float


def rates(rows: Sequence[Row]) -> str:
    """What we reach: a line for each network, a column for each way."""
    ways = [way for way in WAYS if any(row.ours(way) for row in rows)]
    memory = any(peak(row) for row in rows)
    columns = ["network", "batch", *(WAY_NAMES[way] for way in ways), "of the limit"]
    lines = []
    for row in rows:
        share = "" if row.share is None else f"{row.share:.0%}"
        cells = (spread(case.samples, thousands) if (case := row.ours(way)) else "" for way in ways)
        lines.append([row.title, f"{row.best.batch:,}", *cells, share, *([peak(row)] if memory else [])])
    return table(columns + ["memory"] * memory, lines, "l" + "r" * 99)


def ratios(rows: Sequence[Row], remarks: Sequence[Remark]) -> str:
    """Ours beside others'; empty where there is nothing to compare."""
    pairs = [pair for pair in PAIRS if any(row.ratio(pair) for row in rows)]
    lines = []
    for row in rows:
        found = {pair: ratio for pair in pairs if (ratio := row.ratio(pair))}
        if found:
            libraries = {pair.library for pair in found}
            known = (one.text for one in remarks if any(one.holds(row.network, library) for library in libraries))
            cells = (spread(found[pair], decimals) if pair in found else "" for pair in pairs)
            lines.append([row.title, *cells, "; ".join(known)])
    return table(("network", *map(titled, pairs), "remark"), lines, "l" + "r" * len(pairs) + "l") if lines else ""


def titled(pair: Pair) -> str:
    """What is beside what; the way alone where it is the same."""
    ours = "" if pair.ours == pair.theirs else f"{WAY_NAMES[pair.ours]} / "
    return f"{ours}{pair.library}, {WAY_NAMES[pair.theirs]}"


def headlines(machine: Machine, published: Sequence[Published]) -> str:
    """What was promised: `optimize` beside the most that torch makes of a peer's, and rates that others printed."""
    lines = [*_beside_autotuned(machine), *_beside_published(machine, published)]
    return table(("", "images / s", "beside", "ratio"), lines, "lrlr") if lines else ""


def _beside_autotuned(machine: Machine) -> Iterator[tuple[str, ...]]:
    for (mode, dtype), rows in machine.settings.items():
        for row in rows:
            for library in PEERS:
                ratio = row.ratio(Pair(library, "autotuned", "optimized"))
                own = row.ours("optimized")
                if ratio and own:
                    what = f"{row.title}, {mode}, {dtype}, batch {own.batch:,}: `optimize` ({own.detail})"
                    beside = f'{library}, `torch.compile(mode="max-autotune")`'
                    yield what, thousands(own.rate), beside, spread(ratio, decimals)


def _beside_published(machine: Machine, published: Sequence[Published]) -> Iterator[tuple[str, ...]]:
    for one, row in printed(machine, published):
        best = row.best
        what = f"{row.title}, {best.mode}, {best.dtype}, batch {best.batch:,}: {WAY_NAMES[best.way]}"
        yield what, thousands(best.rate), f"{thousands(one.rate)}, {one.source}", decimals(best.rate / one.rate)


def printed(machine: Machine, published: Sequence[Published]) -> Iterator[tuple[Published, Row]]:
    """The networks whose rate on such a device somebody has printed."""
    for (mode, _), rows in machine.settings.items():
        for row in rows:
            for one in published:
                fits = (one.mode, one.device) == (mode, machine.runs[-1].device)
                if fits and row.network in one.networks and not row.classic:
                    yield one, row


def targets(machine: Machine, published: Sequence[Published]) -> Iterator[Target]:
    """How many times as fast as printed we promise to be."""
    for one, row in printed(machine, published):
        what = f"{machine.title}: {row.network}, {one.mode}, {row.best.dtype} / {thousands(one.rate)} images/s"
        yield Target(what, row.best.rate / one.rate, at_least=one.at_least)


def side_by_side(machine: Machine) -> str:
    """Several devices: what they reach together, and the share of what each reaches alone."""
    lines = [
        [named(case), case.mode, case.dtype, f"{case.devices} x {case.batch:,}", thousands(case.rate), efficiency]
        for case, alone in machine.side_by_side()
        for efficiency in [f"{case.rate / (case.devices * alone.rate):.0%}"]
    ]
    columns = ("network", "mode", "dtype", "batch", "images / s", "of as many alone")
    return table(columns, lines, "lllrrr") if lines else ""


def unmeasured(machine: Machine) -> str:
    """What did not run, and what was raised."""
    lines = []
    for case in machine.unmeasured():
        way = f"{case.library}, {WAY_NAMES.get(case.way, case.way)}"
        raised = f"`{case.error.replace('`', '')}`"
        lines.append((named(case), case.mode, case.dtype, way, f"{case.status}, batch {case.batch:,}", raised))
    return table(("network", "mode", "dtype", "way", "", "what was raised"), lines, "llllll") if lines else ""


def summary(found: Iterable[Machine]) -> str:
    """The networks of the headlines on every machine, in its first setting: what the README shows."""
    lines = []
    for machine in found:
        (_, dtype), rows = next(iter(machine.settings.items()), (("", ""), []))
        by_name = {row.network: row for row in rows if not row.classic}
        for row in (by_name[name] for name in HEADLINE if name in by_name):
            best, eager = row.best, row.ours("eager")
            lines.append(
                (
                    machine.title,
                    f"`{row.network}`, {dtype}, batch {best.batch:,}",
                    thousands(eager.rate) if eager else "",
                    f"{thousands(best.rate)} ({WAY_NAMES[best.way]})",
                    *(spread(found, decimals) if (found := row.ratio(pair)) else "" for pair in EAGER),
                )
            )
    columns = ("device", "inference", "eager", "best way", *(f"eager / {pair.library}" for pair in EAGER))
    return table(columns, lines, "llrrrr") if lines else ""


# Cells


def named(case: Case) -> str:
    return case.network + (", classic" if case.classic else "")


def peak(row: Row) -> str:
    """The memory that the network takes as it comes."""
    eager = row.ours("eager")
    return f"{eager.peak_bytes / 2**30:.2f} GiB" if eager and eager.peak_bytes else ""


def spread(samples: Samples, form) -> str:
    """The median, and half the distance of the quartiles as a share of it."""
    lower, upper = samples.quartiles
    return f"{form(samples.median)} ±{(upper - lower) / 2 / samples.median:.0%}"


def thousands(rate: float) -> str:
    """Images per second, as they are read."""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def decimals(ratio: float) -> str:
    """A ratio, as it is read."""
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:,.0f}"
