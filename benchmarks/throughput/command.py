"""The command `throughput`."""

import secrets
from collections.abc import Collection
from dataclasses import asdict
from datetime import UTC, datetime
from inspect import signature
from pathlib import Path
from typing import Any, get_args

import click
import torch

import cnnzoo
from benchmarks.environment import Environment
from benchmarks.harness import RESULTS, matching, on_device, rounds
from benchmarks.peers import INSTALLED, PEERS
from benchmarks.throughput.data_parallel import measure_scaling, team
from benchmarks.throughput.plan import DEFAULT_DTYPES, DTYPES, EXECUTIONS, Choice, plan
from benchmarks.throughput.results import Journal, Run, keys
from benchmarks.throughput.runner import Effort, Runner
from benchmarks.throughput.stopping import Stopped, stoppable

BACKENDS = click.Choice(get_args(signature(cnnzoo.optimize).parameters["backend"].annotation))
MIN_TIME = {"cpu": 0.05, "cuda": 0.03}


def listed(option: str, name: str, known: Collection[str], **settings: Any):
    """An option that takes names, separated by commas."""

    def parse(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[str, ...] | None:
        given = None if text is None else tuple(filter(None, text.split(",")))
        wrong = [one for one in given or () if one not in known]
        if wrong:
            raise click.BadParameter(f"unknown {', '.join(wrong)}; it takes {', '.join(known)}")
        return given

    return click.option(option, name, metavar="NAMES", callback=parse, **settings)


def size(context: click.Context, parameter: click.Parameter, text: str) -> int | None:
    """A number of images, or None for `auto`."""
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise click.BadParameter(f"got {text!r}; it takes 'auto' or a number of images")
    return int(text)


@click.command()
@on_device()
@matching(cnnzoo.list_models())
@listed("--mode", "modes", ("infer", "train"), default="infer,train", show_default=True)
@listed("--dtype", "dtypes", DTYPES, help="Of fp32, tf32, bf16 and fp16; by default fp32, on CUDA bf16,tf32.")
@click.option("--batch", default="auto", show_default=True, callback=size, help="Images at a time, or 'auto'.")
@listed("--against", "against", PEERS, help="By default torchvision,timm, as far as they are installed.")
@listed("--execution", "executions", EXECUTIONS, help=f"Of {', '.join(EXECUTIONS)}; by default by device and mode.")
@click.option("--compile", "slow", metavar="PATTERNS", help="Networks to compile and optimise, such as 'vgg*'.")
@click.option("--backend", type=BACKENDS, default="auto", show_default=True, help="The backend of cnnzoo.optimize.")
@click.option("--algorithms", default=10, show_default=True, help="How many cuDNN tries for each convolution.")
@rounds(default=5)
@click.option("--min-time", type=float, help="Seconds that one sample takes at least; by default 0.05, on CUDA 0.03.")
@click.option("--devices", type=click.IntRange(min=1), help="Measure scaling on 1 to so many, under torchrun.")
@click.option("--budget", type=click.FloatRange(min=0, min_open=True), help="Seconds after which to stop.")
@click.option("--resume/--no-resume", default=True, show_default=True, help="Leave out what the file has from here.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="By default results/throughput-DEVICE.jsonl."
)
@click.option("--save/--no-save", default=True, show_default=True, help="Append to the file, or only print.")
def throughput(
    device: str, repeats: int, min_time: float | None, algorithms: int, backend: str, devices: int | None,
    budget: float | None, resume: bool, out: Path | None, save: bool, **asked: Any,
) -> None:  # fmt: skip
    """Images per second of every network, beside torchvision and timm.

    What is measured is in the file at once. After a stop, the same command resumes.
    """
    asked["dtypes"] = asked["dtypes"] or DEFAULT_DTYPES[device]
    asked["against"] = INSTALLED if asked["against"] is None else asked["against"]
    asked["slow"] = asked["slow"] and tuple(asked["slow"].split(","))
    choice = Choice(device, **asked)
    effort = Effort(repeats, MIN_TIME[device] if min_time is None else min_time, algorithms, backend)
    journal = Journal((out or RESULTS / f"throughput-{device}.jsonl") if save else None)
    with stoppable(budget) as stop:
        runner = Runner(started(device, effort), journal, effort, stop, click.echo)
        try:
            if devices is None:
                measure(runner, choice, resume)
            else:
                with team(device, devices) as joined:
                    measure_scaling(joined, runner, choice, resume)
        except Stopped:
            click.echo(f"stopped: {stop.reason}; the same command resumes here")
    if stop.status:
        raise SystemExit(stop.status)


def started(device: str, effort: Effort) -> Run:
    """This run, under a name that no other has."""
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"
    settings = asdict(effort)
    if device == "cuda":
        settings |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
        settings["TensorFloat-32"] = "in tf32, for convolutions and matrices; not in fp32"
    return Run(name, device, Environment.here(), settings)


def measure(runner: Runner, choice: Choice, resume: bool) -> None:
    """Measure what there is left to measure."""
    finished = runner.prepared(resume)
    left = [workload for workload in plan(choice) if not finished.issuperset(keys(workload))]
    if left:
        runner.measure(left)
    else:
        click.echo("nothing left to measure; --no-resume measures again")
