"""The latest lines of the other commands' files, as Markdown."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.environment import Environment
from benchmarks.harness import RESULTS, Result, unit
from benchmarks.report.markdown import table
from benchmarks.throughput.results import files


def measurements(folder: Path = RESULTS) -> str:
    """A section for each file: the latest line of each case and candidate, be it a time or an accuracy."""
    parts = []
    for path in sorted(set(folder.glob("*.jsonl")) - set(files(folder))):
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        results = timings(lines)
        if results:
            places = (f"{hardware(one)}, torch {one.environment.versions['torch']}" for one in results)
            parts += [f"### {path.stem}\n", f"{'; '.join(dict.fromkeys(places))}.\n", times(results)]
        shares = {line["case"]: f"{line['test_accuracy']:.4f}" for line in lines if "test_accuracy" in line}
        if shares:
            parts += [f"### {path.stem}\n", table(("case", "test accuracy"), shares.items(), "lr")]
    return "\n".join(parts)


def timings(lines: Iterable[dict[str, Any]]) -> list[Result]:
    """The last result of each candidate in each case."""
    found: dict[tuple[str, str], Result] = {}
    for line in lines:
        if "ratio" in line:
            result = Result(**{**line, "environment": Environment(**line["environment"])})
            found[result.case, result.candidate] = result
    return list(found.values())


def hardware(one: Result) -> str:
    """Where a time was measured."""
    here = one.environment
    return f"{here.gpu if 'cuda' in one.case and here.gpu else here.cpu}, {here.threads} threads"


def times(results: Iterable[Result]) -> str:
    """Times for one call, and their ratios to the reference of the case."""
    lines = []
    for one in results:
        scale, name = unit(one.median)
        lower, upper = one.ratio_quartiles
        ratio = "reference" if one.candidate == one.reference else f"{one.ratio:.3g} ({lower:.3g} to {upper:.3g})"
        lines.append((one.case, one.candidate, f"{one.median * scale:.3g}{name}", ratio))
    return table(("case", "candidate", "median", "ratio (quartiles)"), lines, "llrr")
