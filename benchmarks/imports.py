"""What `import cnnzoo` adds to `import torch`, and what torchvision adds: each in a fresh process."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import click

from benchmarks.harness import Comparison, Report, Target, repeats, reporting, take_turns

# cnnzoo imports its names when the first of them is used, so that one has to be touched.
SCRIPTS = {
    "torch": ("pass", "import torch"),
    "cnnzoo, after torch": ("import torch", "import cnnzoo; cnnzoo.create"),
    "torchvision, after torch": ("import torch", "import torchvision"),
}


@click.command()
@repeats(default=9)
@reporting
def imports(repeats: int, report: Report) -> None:
    """Import times, in fresh processes."""
    measures: dict[str, Callable[[], float]] = {
        name: partial(timed_by_itself, *script) for name, script in SCRIPTS.items()
    }
    if find_spec("cnnzoo.cli"):
        measures["cnnzoo --help"] = help_time
    torch_alone, with_cnnzoo, _ = SCRIPTS
    result = Comparison("fresh process", torch_alone, take_turns(measures, repeats))
    added = Target("cnnzoo adds to torch", 1000 * result.samples[with_cnnzoo].median, at_most=50, unit=" ms")
    report.timings("imports", [result], [added])


def timed_by_itself(before: str, timed: str) -> float:
    """Seconds that a fresh interpreter takes for `timed`, after `before`."""
    script = f"import time; {before}; start = time.perf_counter(); {timed}; print(time.perf_counter() - start)"
    return float(run("-c", script))


def help_time() -> float:
    """Seconds from starting the command line to its end, the interpreter's own start included."""
    started = time.perf_counter()
    run("-m", "cnnzoo", "--help")
    return time.perf_counter() - started


def run(*arguments: str) -> str:
    # Compiled modules are cached, as they are for a user: otherwise cnnzoo alone would be compiled each time.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise click.ClickException(f"a measured process failed:\n{done.stderr}")
    return done.stdout
