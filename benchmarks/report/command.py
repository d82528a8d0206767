"""The command `report`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from benchmarks.harness import RESULTS
from benchmarks.report.machines import Machine, machines
from benchmarks.report.markdown import filled
from benchmarks.report.page import NOTHING, PLOTS, PUBLISHED, Throughput
from benchmarks.report.tables import summary, targets
from benchmarks.report.timings import measurements
from benchmarks.throughput.results import files, read

ROOT = Path(__file__).parents[2]
PAGES = ("docs/benchmarks.md", "README.md")


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; exit with status 1 if the pages are not up to date.")
def report(check: bool) -> None:
    """Tables and plots from all files of results, in docs/ and in the README."""
    found = machines(read(files(RESULTS)))
    page, parts = made(found, RESULTS)
    stale = [path for path, text in pages(ROOT, parts).items() if path.read_text("utf-8") != text]
    if check:
        for path in stale:
            click.echo(f"{path.relative_to(ROOT)} is not what the results make: run python -m benchmarks report")
        raise SystemExit(bool(stale))
    write(ROOT, page, parts)
    for target in (target for machine in found for target in targets(machine, PUBLISHED)):
        click.echo(str(target))
    click.echo(f"{len(PAGES)} pages, {len(page.drawings)} plots")


def made(found: Sequence[Machine], results: Path) -> tuple[Throughput, dict[str, str]]:
    """The plots, and the parts of the pages by name."""
    page = Throughput(found)
    others = measurements(results) or NOTHING
    return page, {"throughput": page.text, "summary": summary(found) or NOTHING, "others": others}


def pages(root: Path, parts: Mapping[str, str]) -> dict[Path, str]:
    """The pages with their parts filled in."""
    return {root / name: filled((root / name).read_text("utf-8"), parts) for name in PAGES}


def write(root: Path, page: Throughput, parts: Mapping[str, str]) -> None:
    """Write pages and plots; plots that no page shows any more go."""
    folder = root / "docs" / PLOTS
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.svg"):
        if path.name not in page.drawings:
            path.unlink()
    for name, draw in page.drawings.items():
        (folder / name).write_text(draw(), "utf-8")
    for path, text in pages(root, parts).items():
        path.write_text(text, "utf-8")
