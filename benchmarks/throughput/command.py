"""The command `throughput`."""

import secrets
from collections.abc import Collection
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import torch

import cnnzoo
from benchmarks.environment import Environment
from benchmarks.harness import RESULTS, device, repeats
from benchmarks.peers import PEERS, models
from benchmarks.throughput.cases import DEFAULT_DTYPES, DTYPES, WAYS, Choice, Group, plan
from benchmarks.throughput.journal import Journal, Run, keys
from benchmarks.throughput.runner import Effort, Runner
from benchmarks.throughput.scale import scale, team
from benchmarks.throughput.stopping import Stopped, stoppable

MIN_TIME = {"cpu": 0.05, "cuda": 0.03}


def listed(option: str, name: str, known: Collection[str], **settings: Any):
    """An option that takes names, separated by commas."""

    def parse(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[str, ...] | None:
        if text is None:
            return None
        given = tuple(filter(None, text.split(",")))
        wrong = [one for one in given if one not in known]
        if wrong:
            raise click.BadParameter(f"unknown {', '.join(wrong)}; it takes {', '.join(known)}")
        return given

    return click.option(option, name, metavar="NAMES", callback=parse, **settings)


def size(context: click.Context, parameter: click.Parameter, text: str) -> int | None:
    """A number of pictures, or None for `auto`."""
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise click.BadParameter(f"got {text!r}; it takes 'auto' or a number of pictures")
    return int(text)


@click.command()
@device()
@models(cnnzoo.list_models())
@listed("--mode", "modes", ("infer", "train"), default="infer,train", show_default=True)
@listed("--dtype", "dtypes", DTYPES, help="Of fp32, tf32, bf16 and fp16; by default fp32, on CUDA bf16,tf32.")
@click.option("--batch", default="auto", show_default=True, callback=size, help="Pictures at a time, or 'auto'.")
@listed("--against", "against", PEERS, help="By default torchvision,timm, as far as they are installed.")
@listed("--ways", "ways", WAYS, help=f"Of {', '.join(WAYS)}; the default depends on device and mode.")
@click.option("--compile", "patient", metavar="PATTERNS", help="Networks to compile and optimise, such as 'vgg*'.")
@click.option("--backend", default="auto", show_default=True, help="The backend of cnnzoo.optimize.")
@click.option("--algorithms", default=10, show_default=True, help="How many cuDNN tries for each convolution.")
@repeats(default=5)
@click.option("--min-time", type=float, help="Seconds that one sample takes at least; by default 0.05, on CUDA 0.03.")
@click.option("--devices", type=click.IntRange(min=1), help="Measure scaling on 1 to so many, under torchrun.")
@click.option("--budget", type=click.FloatRange(min=0, min_open=True), help="Seconds after which to stop.")
@click.option("--resume/--no-resume", default=True, show_default=True, help="Leave out what the file has from here.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="By default throughput-DEVICE.jsonl in results."
)
@click.option("--save/--no-save", default=True, show_default=True, help="Append to the file, or only print.")
def throughput(
    device: str,
    names: list[str],
    modes: tuple[str, ...],
    dtypes: tuple[str, ...] | None,
    batch: int | None,
    against: tuple[str, ...] | None,
    ways: tuple[str, ...] | None,
    patient: str | None,
    backend: str,
    algorithms: int,
    repeats: int,
    min_time: float | None,
    devices: int | None,
    budget: float | None,
    resume: bool,
    out: Path | None,
    save: bool,
) -> None:
    """Images per second of every network, beside torchvision and timm.

    What is measured is in the file at once. After a stop, the same command goes on.
    """
    choice = Choice(
        device=device,
        names=names,
        modes=modes,
        dtypes=dtypes or DEFAULT_DTYPES[device],
        against=tuple(filter(find_spec, PEERS)) if against is None else against,
        ways=ways,
        patient=None if patient is None else tuple(patient.split(",")),
        batch=batch,
    )
    effort = Effort(repeats, MIN_TIME[device] if min_time is None else min_time, algorithms, backend)
    journal = Journal((out or RESULTS / f"throughput-{device}.jsonl") if save else None)
    with stoppable(budget) as stop:
        runner = Runner(started(device, effort), journal, effort, stop, click.echo)
        try:
            if devices is None:
                measure(runner, plan(choice), resume)
            else:
                with team(device, devices) as joined:
                    scale(joined, runner, choice, resume)
        except Stopped:
            click.echo(f"stopped: {stop.reason}; the same command goes on from here")
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


def measure(runner: Runner, groups: list[Group], resume: bool) -> None:
    """Measure what there is left to measure."""
    finished = runner.prepared(resume)
    left = [group for group in groups if not finished.issuperset(keys(group))]
    if left:
        runner.measure(left)
    else:
        click.echo("nothing left to measure; --no-resume measures again")
