"""The parts of the pages that follow from the results, and the plots that they show."""

import tomllib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import cnnzoo
from benchmarks.report import plots, tables
from benchmarks.report.machines import Machine
from benchmarks.report.plots import Plot
from benchmarks.report.tables import MODES, Published, Remark

STATED = tomllib.loads(Path(__file__).with_name("remarks.toml").read_text("utf-8"))
REMARKS = [Remark(**row) for row in STATED["remarks"]]
PUBLISHED = [Published(**row) for row in STATED["published"]]

PLOTS = "assets/benchmarks"
"""Where the plots are, from the page."""

NOTHING = "Nothing is measured yet.\n"


class Throughput:
    """What the page says of all machines.

    Attributes:
        drawings: how to make the plots that it shows, by the names of their files.
        text: Markdown, with a section for each machine.
    """

    def __init__(self, found: Sequence[Machine]) -> None:
        self.drawings: dict[str, Callable[[], str]] = {}
        self.text = "\n".join(part for machine in found for part in self.machine(machine)) or NOTHING

    def machine(self, machine: Machine) -> Iterator[str]:
        """What was measured on one."""
        yield f"## {machine.title}\n"
        yield made_with(machine)
        yield from titled("Headlines", tables.headlines(machine, PUBLISHED))
        main = next((dtype for _, dtype in machine.settings), "")
        for (mode, dtype), rows in machine.settings.items():
            yield f"### {MODES[mode].capitalize()}, {dtype}\n"
            yield from filter(None, [tables.ratios(rows, REMARKS)])
            if dtype == main:
                yield from self.plot(f"{machine.slug}-{mode}-ratios", "Ratios to the peers", plots.ratios(rows))
            yield tables.rates(rows)
            if dtype == main and mode == "infer":
                yield from self.plot(f"{machine.slug}-accuracy", "Accuracy", plots.accuracy(rows, stated()))
        of_main = {mode: rows for (mode, dtype), rows in machine.settings.items() if dtype == main}
        yield f"### Share of the matmul rate, {main}\n"
        yield from self.plot(f"{machine.slug}-limit", "Shares of the matmul rate", plots.shares(of_main))
        yield from titled("Several devices", tables.side_by_side(machine))
        yield from titled("What did not run", tables.unmeasured(machine))

    def plot(self, name: str, alt: str, plot: Plot | None) -> Iterator[str]:
        """A plot for each palette of the pages, of which one is shown."""
        if plot is None:
            return
        for theme in ("light", "dark"):
            file = f"{name}-{theme}.svg"
            self.drawings[file] = partial(plots.svg, plot, theme)
            yield f"![{alt}]({PLOTS}/{file}#only-{theme})"
        yield ""


def titled(title: str, text: str) -> Iterator[str]:
    """A section, unless it is empty."""
    if text:
        yield from (f"### {title}\n", text)


def made_with(machine: Machine) -> str:
    """When and with what a machine's results were made, and what it does at best."""
    environments = [run.environment for run in machine.runs]
    days = sorted({one.date[:10] for one in environments})
    versions = (", ".join(f"{name} {number}" for name, number in one.versions.items()) for one in environments)
    reached = [
        f"{dtype} {2e-12 * one.macs_per_second:.3g} TFLOP/s" + (f" at {one.clock} MHz" if one.clock else "")
        for dtype, one in {one.dtype: one for one in machine.matmuls}.items()
    ]
    best = f" Products of large matrices: {'; '.join(reached)}." if reached else ""
    return f"{' to '.join(dict.fromkeys((days[0], days[-1])))}; {'; '.join(dict.fromkeys(versions))}.{best}\n"


def stated() -> dict[str, float]:
    """The accuracy on ImageNet of the default weights, as their publisher states it, of the images measured here."""
    found = {}
    for name in cnnzoo.list_models(pretrained=True):
        first = cnnzoo.list_checkpoints(name)[0]
        same = first.preprocessing.size == cnnzoo.spec(name).input_shape[-1]
        if first.class_set == "imagenet1k" and first.accuracy and same:
            found[name] = first.accuracy
    return found
