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
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from benchmarks.harness import Call, rounded
from benchmarks.steps import Forward, TrainingStep
from benchmarks.throughput.execution import WARM_UP
from benchmarks.throughput.networks import Networks, precision
from benchmarks.throughput.plan import OURS, Candidate, Choice, Mode, Workload, variants
from benchmarks.throughput.results import keys
from benchmarks.throughput.runner import Runner, choosing_algorithms, free

EXECUTION: dict[Mode, str] = {"train": "data parallel", "infer": "replicated"}


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
        said = [value]
        distributed.broadcast_object_list(said, src=0)
        return said[0]

    def slowest(self, seconds: float, count: int) -> float:
        """The longest time of the first processes."""
        longest = torch.tensor(seconds, dtype=torch.float64, device=self.device)
        distributed.all_reduce(longest, distributed.ReduceOp.MAX, group=self.groups[count])
        return float(longest)

    def wait(self, count: int | None = None) -> None:
        """Until the first processes, or all, are here."""
        distributed.barrier(group=self.groups[count or max(self.groups)])


@contextmanager
def team(device: str, size: int) -> Iterator[Team]:
    """Join the processes that torchrun started."""
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


def measure_scaling(team: Team, runner: Runner, choice: Choice, resume: bool) -> None:
    """Measure every network on 1, 2, 4 ... devices; the first process writes the results.

    What one process raises ends all of them: the others cannot go on without it.
    """
    finished = team.agreed(runner.prepared(resume))
    workloads = [
        Workload(name, classic, mode, dtype, (Candidate(OURS, EXECUTION[mode]),), choice.batch)
        for dtype, mode, (name, classic) in product(choice.dtypes, choice.modes, variants(choice.names))
    ]
    first = team.rank == 0
    if first:
        runner.journal.write([runner.run])
    for number, workload in enumerate(workloads, start=1):
        left = [count for count in team.groups if not finished.issuperset(keys(workload, count))]
        if not left:
            continue
        with precision(workload.dtype), choosing_algorithms(runner.effort.algorithms):
            networks = Networks(workload, team.device)
            batch = team.agreed((workload.batch or runner.searched(workload, networks)) if first else None)
            for count in left:
                rates = rates_of(count, team, networks, batch, runner) if team.rank < count else ()
                team.wait()
                free(team.device)
                if first:
                    found = {"batch": batch, "devices": count, "rates": rates, "macs": networks.macs}
                    one = runner.measurement(number, workload, workload.candidates[0], status="measured", **found)
                    runner.journal.write([one])
                    runner.show(f"{workload.title}: {count} x {batch} images, {one.rate:,.4g} images/s")


def rates_of(count: int, team: Team, networks: Networks, batch: int, runner: Runner) -> tuple[float, ...]:
    """Images per second of the first devices together, in each round."""
    call = prepared(count, team, networks, batch)
    calls = math.ceil(runner.effort.min_time / team.slowest(runner.timed(call, 1), count)) or 1
    rates = []
    for _ in range(runner.effort.rounds):
        team.wait(count)
        seconds = team.slowest(runner.timed(call, calls), count)
        rates.append(rounded(count * batch * calls / seconds, 5))
    return tuple(rates)


def prepared(count: int, team: Team, networks: Networks, batch: int) -> Call:
    """The forward pass, or the training step that ends with the same gradients on all devices, warmed up."""
    model, batches = networks.copy(OURS), networks.batches(batch)["contiguous"]
    if networks.workload.mode == "infer":
        call: Call = Forward(model, batches)
    else:
        parallel = DistributedDataParallel(model, process_group=team.groups[count]) if count > 1 else model
        call = TrainingStep(parallel, batches)
    for _ in range(WARM_UP[team.device]):
        call()
    return call
