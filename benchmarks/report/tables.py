"""The tables of throughput, as Markdown."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from benchmarks.harness import Samples, Target
from benchmarks.peers import PEERS
from benchmarks.report.machines import PAIRS, Machine, Pair, Row, titled
from benchmarks.report.markdown import table
from benchmarks.throughput.plan import EXECUTIONS, HEADLINE

MODES = {"infer": "inference", "train": "training step"}
NAMES = {name: name.replace("_", " ") for name in EXECUTIONS} | {"cudagraphs": "CUDA graph", "optimized": "`optimize`"}


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
    """What we reach: a line for each network, a column for each execution."""
    executions = [one for one in EXECUTIONS if any(row.ours(one) for row in rows)]
    memory = ["memory"] if any(peak(row) for row in rows) else []
    lines = []
    for row in rows:
        cells = (spread(one.samples, thousands) if (one := row.ours(name)) else "" for name in executions)
        share = "" if row.share is None else f"{row.share:.0%}"
        lines.append([row.title, f"{row.best.batch:,}", *cells, share, *(peak(row) for _ in memory)])
    columns = ["network", "batch", *(NAMES[name] for name in executions), "of matmul", *memory]
    return table(columns, lines, "l" + "r" * 99)


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
    return table(("network", *map(compared, pairs), "remark"), lines, "l" + "r" * len(pairs) + "l")


def compared(pair: Pair) -> str:
    """What is beside what; the execution alone where it is the same."""
    ours = "" if pair.ours == pair.theirs else f"{NAMES[pair.ours]} / "
    return f"{ours}{pair.library}, {NAMES[pair.theirs]}"


def headlines(machine: Machine, published: Sequence[Published]) -> str:
    """What was promised: `optimize` beside the most that torch makes of a peer's, and rates that others printed."""
    lines = []
    for row in (row for rows in machine.settings.values() for row in rows):
        for library in PEERS:
            ratio, own = row.ratio(Pair(library, "autotuned", "optimized")), row.ours("optimized")
            if ratio and own:
                what = f"{row.title}, {own.mode}, {own.dtype}, batch {own.batch:,}: `optimize` ({own.detail})"
                beside = f'{library}, `torch.compile(mode="max-autotune")`'
                lines.append((what, thousands(own.rate), beside, spread(ratio, decimals)))
    for one, row in printed(machine, published):
        best = row.best
        what = f"{row.title}, {best.mode}, {best.dtype}, batch {best.batch:,}: {NAMES[best.execution]}"
        lines.append(
            (what, thousands(best.rate), f"{thousands(one.rate)}, {one.source}", decimals(best.rate / one.rate))
        )
    return table(("", "images / s", "beside", "ratio"), lines, "lrlr")


def printed(machine: Machine, published: Sequence[Published]) -> Iterator[tuple[Published, Row]]:
    """The networks whose rate on such a device somebody has printed."""
    for (mode, _), rows in machine.settings.items():
        fitting = [one for one in published if (one.mode, one.device) == (mode, machine.runs[-1].device)]
        yield from ((one, row) for row in rows for one in fitting if row.network in one.networks and not row.classic)


def targets(machine: Machine, published: Sequence[Published]) -> Iterator[Target]:
    """How many times as fast as printed we promise to be."""
    for one, row in printed(machine, published):
        what = f"{machine.title}: {row.network}, {one.mode}, {row.best.dtype} / {thousands(one.rate)} images/s"
        yield Target(what, row.best.rate / one.rate, at_least=one.at_least)


def side_by_side(machine: Machine) -> str:
    """Several devices: what they reach together, and the share of what each reaches alone."""
    lines = []
    for one, alone in machine.side_by_side():
        efficiency = f"{one.rate / (one.devices * alone.rate):.0%}"
        batch = f"{one.devices} x {one.batch:,}"
        lines.append((titled(one), one.mode, one.dtype, batch, thousands(one.rate), efficiency))
    return table(("network", "mode", "dtype", "batch", "images / s", "of as many alone"), lines, "lllrrr")


def unmeasured(machine: Machine) -> str:
    """What did not run, and what was raised."""
    lines = []
    for one in machine.latest.values():
        if not one.measured:
            how, raised = f"{one.library}, {NAMES.get(one.execution, one.execution)}", one.error.replace("`", "")
            state = f"{one.status}, batch {one.batch:,}"
            lines.append((titled(one), one.mode, one.dtype, how, state, f"`{raised}`"))
    return table(("network", "mode", "dtype", "execution", "", "what was raised"), lines, "llllll")


def summary(found: Iterable[Machine]) -> str:
    """The networks of the headlines on every machine, in its first setting: what the README shows."""
    pairs = [Pair(library, "eager", "eager") for library in PEERS]
    lines = []
    for machine in found:
        (_, dtype), rows = next(iter(machine.settings.items()), (("", ""), []))
        by_name = {row.network: row for row in rows if not row.classic}
        for row in (by_name[name] for name in HEADLINE if name in by_name):
            best, eager = row.best, row.ours("eager")
            rate = f"{thousands(best.rate)} ({NAMES[best.execution]})"
            beside = (spread(ratio, decimals) if (ratio := row.ratio(pair)) else "" for pair in pairs)
            what = f"`{row.network}`, {dtype}, batch {best.batch:,}"
            lines.append((machine.title, what, thousands(eager.rate) if eager else "", rate, *beside))
    columns = ("device", "inference", "eager", "fastest", *(f"eager / {pair.library}" for pair in pairs))
    return table(columns, lines, "llrrrr")


# Cells


def peak(row: Row) -> str:
    """The memory that the network takes as it comes."""
    eager = row.ours("eager")
    return f"{eager.peak_bytes / 2**30:.2f} GiB" if eager and eager.peak_bytes else ""


def spread(samples: Samples, form: Callable[[float], str]) -> str:
    """The median, and half the distance of the quartiles as a share of it."""
    lower, upper = samples.quartiles
    return f"{form(samples.median)} ±{(upper - lower) / 2 / samples.median:.0%}"


def thousands(rate: float) -> str:
    """Images per second, as they are read."""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def decimals(ratio: float) -> str:
    """A ratio, as it is read."""
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:,.0f}"
