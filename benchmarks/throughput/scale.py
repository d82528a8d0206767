"""Several devices side by side: training by `DistributedDataParallel`, and inference on a copy for each device.

One process for each device, started by torchrun. Each has a batch of its own, so that perfect scaling multiplies the
rate by their number.
"""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any

import click
import torch

from benchmarks.steps import Forward, TrainingStep
from benchmarks.throughput.cases import OURS, Candidate, Choice, Group, Mode, variants
from benchmarks.throughput.journal import keys, significant
from benchmarks.throughput.networks import Networks, precision
from benchmarks.throughput.runner import Runner, choosing_algorithms, free
from benchmarks.throughput.ways import WARM_UP, Call

WAY: dict[Mode, str] = {"train": "data parallel", "infer": "replicated"}


@dataclass(frozen=True)
class Team:
    """The processes that torchrun started, seen from one of them.

    Attributes:
        rank: of this process.
        groups: the first 1, 2, 4 ... and all of them, by their number.
    """

    rank: int
    device: str
    groups: dict[int, Any]

    def agreed(self, value: Any) -> Any:
        """What the first process says."""
        from torch import distributed

        said = [value]
        distributed.broadcast_object_list(said, src=0)
        return said[0]

    def slowest(self, seconds: float, count: int) -> float:
        """The longest time of the first processes."""
        from torch import distributed

        longest = torch.tensor(seconds, dtype=torch.float64, device=self.device)
        distributed.all_reduce(longest, distributed.ReduceOp.MAX, group=self.groups[count])
        return float(longest)

    def wait(self, count: int | None = None) -> None:
        """Until the first processes, or all, are here."""
        from torch import distributed

        distributed.barrier(group=self.groups[count or max(self.groups)])

    @property
    def first(self) -> bool:
        return self.rank == 0


@contextmanager
def team(device: str, size: int) -> Iterator[Team]:
    """Join the processes that torchrun started."""
    from torch import distributed

    started = int(os.environ.get("WORLD_SIZE", 0))
    if started != size:
        raise click.UsageError(
            f"--devices {size} takes as many processes, and torchrun started {started or 'none'}: "
            f"torchrun --nproc-per-node {size} -m benchmarks throughput --devices {size} ..."
        )
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        groups = {count: distributed.new_group(list(range(count))) for count in counts(size)}
        yield Team(distributed.get_rank(), device, groups)
    finally:
        distributed.destroy_process_group()


def counts(size: int) -> list[int]:
    """The numbers of devices to measure: powers of two, and all."""
    return sorted({2**power for power in range(size.bit_length()) if 2**power <= size} | {size})


def scale(team: Team, runner: Runner, choice: Choice, resume: bool) -> None:
    """Measure every network on 1, 2, 4 ... devices; the first process writes the results.

    What one process raises ends all of them: the others cannot go on without it.
    """
    finished = team.agreed(runner.prepared(resume))
    groups = [
        Group(name, classic, mode, dtype, (Candidate(OURS, WAY[mode]),), choice.batch)
        for dtype, mode, (name, classic) in product(choice.dtypes, choice.modes, variants(choice.names))
    ]
    if team.first:
        runner.journal.write([runner.run])
    for number, group in enumerate(groups, start=1):
        left = [count for count in team.groups if not finished.issuperset(keys(group, count))]
        if not left:
            continue
        with precision(group.dtype), choosing_algorithms(runner.effort.algorithms):
            networks = Networks(group, team.device)
            batch = team.agreed((group.asked or runner.searched(group, networks)) if team.first else None)
            for count in left:
                rates = on(count, team, networks, batch, runner) if team.rank < count else ()
                team.wait()
                free(team.device)
                if team.first:
                    found = {"batch": batch, "devices": count, "rates": rates, "macs": networks.macs}
                    case = runner.case(number, group, group.candidates[0], status="measured", **found)
                    runner.journal.write([case])
                    runner.show(f"{group.title}: {count} x {batch} pictures, {case.rate:,.4g} images/s")


def on(count: int, team: Team, networks: Networks, batch: int, runner: Runner) -> tuple[float, ...]:
    """Images per second of the first devices together, in each round."""
    call = prepared(count, team, networks, batch)
    calls = math.ceil(runner.effort.min_time / team.slowest(runner.timed(call, 1), count)) or 1
    rates = []
    for _ in range(runner.effort.rounds):
        team.wait(count)
        seconds = team.slowest(runner.timed(call, calls), count)
        rates.append(significant(count * batch * calls / seconds))
    return tuple(rates)


def prepared(count: int, team: Team, networks: Networks, batch: int) -> Call:
    """The forward pass, or the training step that ends with the same gradients on all devices, warmed up."""
    from torch.nn.parallel import DistributedDataParallel

    model, batches = networks.copy(OURS), networks.batches(batch)["contiguous"]
    if networks.group.mode == "infer":
        call: Call = Forward(model, batches)
    elif count == 1:
        call = TrainingStep(model, batches)
    else:
        call = TrainingStep(DistributedDataParallel(model, process_group=team.groups[count]), batches)
    for _ in range(WARM_UP[team.device]):
        call()
    return call
