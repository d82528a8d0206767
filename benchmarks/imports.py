"""What `import cnnzoo` adds to `import torch`, and what torchvision adds: each in a fresh process."""

import os
import subprocess
import sys
import time
from functools import partial
from importlib.util import find_spec

import click

from benchmarks.harness import Bench, benchmark

# cnnzoo imports its names when the first of them is used, so that one has to be touched.
SCRIPTS = {
    "torch": ("pass", "import torch"),
    "cnnzoo, after torch": ("import torch", "import cnnzoo; cnnzoo.create"),
    "torchvision, after torch": ("import torch", "import torchvision"),
}


@benchmark(repeats=9, min_time=None)
def imports(bench: Bench) -> None:
    """Import times, in fresh processes."""
    measures = {name: partial(timed_by_itself, *script) for name, script in SCRIPTS.items()}
    if not find_spec("torchvision"):
        del measures["torchvision, after torch"]
    one = bench.compare_measured("fresh process", "torch", {**measures, "cnnzoo --help": help_time})
    bench.target("cnnzoo adds to torch", 1000 * one.samples["cnnzoo, after torch"].median, at_most=50, unit=" ms")


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
