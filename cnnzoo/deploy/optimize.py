"""The fastest way to run a network here, found by trying."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from cnnzoo.deploy.backends import BACKENDS, Backend, OnnxRuntime
from cnnzoo.deploy.checking import Reference, random_images
from cnnzoo.deploy.fold import folded
from cnnzoo.deploy.merge import MergedBranches, merged
from cnnzoo.deploy.timing import Candidate, Contest, OptimizationReport
from cnnzoo.errors import DeployError, OptionError, ShapeError, operation, unknown

BackendName = Literal["auto", "eager", "cudagraphs", "onnxruntime", "openvino", "inductor"]


class Optimized(nn.Module):
    """A network for inference, run by the backend that suited it best: images (N, C, H, W) to scores (N, num_classes).

    Scores come in the images' dtype. Batches of any size are taken; a backend that is prepared for one size gets them
    in parts of that size, the last one filled up. It can be pickled, and prepares its backend anew where it is loaded.

    Attributes:
        backend: the name of what runs it.
        input_shape: (C, H, W).
        batch_size: images in the batch that it was optimised for.
        dtype: what it calculates in.
        report: what was tried, with times.
    """

    def __init__(self, runner: Backend, shape: tuple[int, ...], dtype: torch.dtype, report: OptimizationReport) -> None:
        super().__init__()
        self.runner = runner
        self.batch_size, *size = shape
        self.input_shape, self.dtype, self.report = tuple(size), dtype, report
        super().train(False)

    @property
    def backend(self) -> str:
        return self.runner.name

    def forward(self, images: Tensor) -> Tensor:
        if tuple(images.shape[1:]) != self.input_shape:
            raise ShapeError(
                f"Optimized: got images {tuple(images.shape)}; it was made for (N, *{self.input_shape}): call optimize "
                "again with another input_shape"
            )
        if self.runner.any_batch or len(images) == self.batch_size:
            return self.runner(images).to(images.dtype)
        return torch.cat([self._part(part) for part in images.split(self.batch_size)])

    def _part(self, images: Tensor) -> Tensor:
        absent = self.batch_size - len(images)
        if absent:
            images = torch.cat([images, images.new_zeros(absent, *images.shape[1:])])
        return self.runner(images)[: self.batch_size - absent].to(images.dtype)

    def train(self, mode: bool = True) -> "Optimized":
        """Refuse: its normalisation is folded away."""
        if mode:
            raise DeployError("Optimized: it can only be evaluated; train the network that it was made from")
        return self

    def extra_repr(self) -> str:
        return (
            f"backend={self.backend}, input_shape={self.input_shape}, batch_size={self.batch_size}, dtype={self.dtype}"
        )


@operation
def optimize(
    model: nn.Module,
    input_shape: Sequence[int] | None = None,
    *,
    batch_size: int = 1,
    backend: BackendName = "auto",
    dtype: torch.dtype | None = None,
    calibration: Tensor | None = None,
    progress: bool = True,
) -> Optimized:
    """Make a network fast for inference on its device: batch normalisation folded, the best backend chosen by timing.

    On the CPU torch itself, its compiler, ONNX Runtime and OpenVINO take part, where they are installed; on CUDA
    torch, CUDA graphs and the compiler. Each candidate's scores on random images are compared with the original's
    before it is timed.

    Args:
        model: any network that torch.fx can follow, on the CPU or a CUDA device; it is not changed.
        input_shape: (C, H, W) of the images; by default the network's own.
        batch_size: images in the batches that will come most often.
        backend: one to use without trying others.
        dtype: to calculate in: `torch.bfloat16` or `torch.float16`, or `torch.int8` (by ONNX Runtime); by default
            the model's own.
        calibration: for `torch.int8`, prepared images (N, C, H, W), some hundred typical ones.
        progress: show on a terminal what is being prepared, and for how long already.

    Returns:
        A module that computes the same; `report` says what was tried.

    Raises:
        DeployError: no backend can run the network, or the one asked for cannot.
        OptionError: an option that does not exist, or does not go with another.

    Examples:
        >>> import cnnzoo
        >>> import torch
        >>> fast = cnnzoo.optimize(cnnzoo.load_pretrained("lenet5"), backend="eager", progress=False)
        >>> fast(torch.zeros(1, 1, 28, 28)).shape
        torch.Size([1, 10])
    """
    if backend != "auto" and backend not in BACKENDS:
        raise unknown("", "backend", str(backend), ["auto", *BACKENDS])
    if batch_size < 1:
        raise OptionError(f"got batch_size={batch_size}; it is 1 or more")
    if (dtype == torch.int8) != (calibration is not None):
        raise OptionError(
            f"got dtype={dtype} {'without' if calibration is None else 'and'} calibration images; "
            "dtype=torch.int8 and calibration=images go together"
        )
    images = random_images(model, input_shape, batch_size)
    dtype = dtype or images.dtype
    compared = images if calibration is None else calibration[:32].to(images)
    contest = Contest(Reference(model, compared), images, dtype, progress=progress)
    for candidate in _candidates(folded(model), images, dtype, calibration):
        tried = candidate.backend
        if backend == tried.name or (backend == "auto" and images.device.type in tried.devices):
            contest.enter(candidate)
    runner, report = contest.conclude()
    return Optimized(runner, tuple(images.shape), dtype, report)


def _candidates(net: nn.Module, images: Tensor, dtype: torch.dtype, calibration: Tensor | None) -> Iterator[Candidate]:
    if calibration is not None:
        yield Candidate(OnnxRuntime, partial(OnnxRuntime, net, images, calibration))
        return
    images = images.to(dtype)
    together = merged(net)
    merges = any(isinstance(module, MergedBranches) for module in together.modules())
    for backend in BACKENDS.values():
        yield Candidate(backend, partial(backend, net, images))
        if merges and backend.gains_by_merging:
            yield Candidate(backend, partial(backend, together, images), merged=True)
