"""How a network is run: each execution makes of a network what is called and timed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import torch
from torch import Tensor, nn

import cnnzoo
from benchmarks.harness import Call, Timed, seconds_per_call
from benchmarks.steps import Batch, Forward, TrainingStep
from benchmarks.throughput.networks import LAYOUTS
from benchmarks.throughput.plan import Mode

WARM_UP = {"cpu": 1, "cuda": 3}
"""Calls in which algorithms are chosen and memory is set aside, before anything is captured or timed."""


@dataclass(frozen=True)
class Prepared:
    """A candidate, warmed up.

    Attributes:
        call: runs it on the next batch.
        detail: what the execution chose.
        peak_bytes: the most device memory that a call has used, or None where it cannot be told.
    """

    call: Call
    detail: str = ""
    peak_bytes: int | None = None


@dataclass(frozen=True)
class Job:
    """What an execution has to run.

    Attributes:
        model: for this candidate alone.
        batches: what it is given in turn, by memory format.
        held: bytes of device memory that were in use before the model was made.
        backend: of `cnnzoo.optimize`.
    """

    model: nn.Module
    batches: Mapping[str, Sequence[Batch]]
    mode: Mode
    timed: Timed
    held: int = 0
    backend: Any = "auto"

    @property
    def device(self) -> str:
        return self.batches["contiguous"][0][0].device.type

    def step(self, layout: str, **compiler: Any) -> Forward | TrainingStep:
        """The forward pass or the training step, with weights and batches in a memory format; compiled, if so asked."""
        model = self.model.to(memory_format=LAYOUTS[layout])
        if compiler:
            model.compile(dynamic=False, **compiler)
        return (Forward if self.mode == "infer" else TrainingStep)(model, self.batches[layout])

    def recorded(self, layout: str) -> "Recorded":
        """The step in a CUDA graph."""
        return Recorded(self.step(layout), self.batches[layout])

    def warmed(self, call: Call) -> Call:
        """The same, called a few times."""
        for _ in range(WARM_UP[self.device]):
            call()
        return call

    def peak(self, call: Call) -> int | None:
        """The most device memory in use during a call, beyond what others hold."""
        if self.device == "cpu":
            return None
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - self.held


def eager(job: Job) -> Prepared:
    """As it comes."""
    step = job.warmed(job.step("contiguous"))
    return Prepared(step, peak_bytes=job.peak(step))


def channels_last(job: Job) -> Prepared:
    """With the channels of a pixel side by side in memory."""
    step = job.warmed(job.step("channels last"))
    return Prepared(step, peak_bytes=job.peak(step))


def cudagraphs(job: Job) -> Prepared:
    """The kernels recorded once and started together, in the memory format that is faster then."""
    # Each graph goes, with its memory, before the next one is recorded.
    seconds = {layout: seconds_per_call(job.recorded(layout), 0.01, job.timed) for layout in LAYOUTS}
    layout = min(seconds, key=seconds.__getitem__)
    kept: list[Recorded] = []
    peak = job.peak(lambda: kept.append(job.recorded(layout)))
    return Prepared(kept[0], layout, peak)


def compiled(job: Job) -> Prepared:
    """By `torch.compile`, channels last."""
    step = job.warmed(job.step("channels last", mode="default"))
    return Prepared(step, "default", job.peak(step))


def autotuned(job: Job) -> Prepared:
    """By `torch.compile(mode="max-autotune")`, channels last; its CUDA graphs keep memory that torch does not count."""
    step = job.step("channels last", mode="max-autotune")
    return Prepared(job.warmed(step), "max-autotune")


def optimized(job: Job) -> Prepared:
    """By `cnnzoo.optimize`, which sees to inference mode itself."""
    images = [images for images, _ in job.batches["contiguous"]]
    count, *shape = images[0].shape
    model = cnnzoo.optimize(job.model.eval(), tuple(shape), batch_size=count, backend=job.backend)
    turn = cycle(images)
    return Prepared(job.warmed(lambda: model(next(turn))), model.backend)


PREPARE: dict[str, Callable[[Job], Prepared]] = {
    one.__name__: one for one in (eager, channels_last, cudagraphs, compiled, autotuned, optimized)
}


class Recorded:
    """A step captured in a CUDA graph; a call copies the next batch to where the graph reads, and replays it.

    Args:
        step: what is captured; its own batches are replaced.
        batches: what to give it in turn.
    """

    def __init__(self, step: Forward | TrainingStep, batches: Sequence[Batch]) -> None:
        self.turn = cycle(batches)
        self.held: tuple[Tensor, Tensor] = (batches[0][0].clone(), batches[0][1].clone())
        step.batches = cycle([self.held])
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP["cuda"]):
                step()
        torch.cuda.current_stream().wait_stream(aside)
        if isinstance(step, TrainingStep):
            step.optimizer.zero_grad()  # so that the graph makes the gradients in memory of its own
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            step()
        self.step = step  # whose weights the graph reads

    def __call__(self) -> None:
        for held, given in zip(self.held, next(self.turn), strict=True):
            held.copy_(given)
        self.graph.replay()
