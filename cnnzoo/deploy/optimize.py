"""The fastest way to run a network here, found by trying."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cnnzoo.deploy.backends import BACKENDS, Backend, OnnxRuntime
from cnnzoo.deploy.checking import Reference, random_images
from cnnzoo.deploy.fold import folded_if_possible
from cnnzoo.deploy.merge import MergedBranches, merged
from cnnzoo.deploy.outputs import Scores, Structure, each, joined, mapped
from cnnzoo.deploy.timing import Candidate, Contest, OptimizationReport
from cnnzoo.errors import DeployError, OptionError, ShapeError, operation, unknown
from cnnzoo.support.wrappers import inside

BackendName = Literal["auto", "eager", "cudagraphs", "onnxruntime", "openvino", "inductor"]


class Optimized(nn.Module):
    """A network for inference, run by the backend that suited it best: images (N, C, H, W) to scores (N, num_classes).

    A network that gives several tensors gives them in the same tuple or dict as before. Scores come in the images'
    dtype. Batches of any size are taken; a backend that is prepared for one size gets them
    in parts of that size, the last one filled up. It can be pickled, and prepares its backend anew where it is loaded.

    Attributes:
        backend: the name of what runs it.
        input_shape: (C, H, W).
        batch_size: images in the batch that it was optimised for.
        dtype: what it calculates in.
        report: what was tried, with times.
    """

    def __init__(
        self,
        runner: Backend,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        report: OptimizationReport,
        structure: Structure,
    ) -> None:
        super().__init__()
        self.runner, self.structure = runner, structure
        self.batch_size, *size = shape
        self.input_shape, self.dtype, self.report = tuple(size), dtype, report
        super().train(False)

    @property
    def backend(self) -> str:
        return self.runner.name

    def forward(self, images: Tensor) -> Any:
        if tuple(images.shape[1:]) != self.input_shape:
            raise ShapeError(
                f"Optimized: got images {tuple(images.shape)}; it was made for (N, *{self.input_shape}): call optimize "
                "again with another input_shape"
            )
        if self.runner.any_batch or len(images) == self.batch_size:
            scores = self.runner(images)
        else:
            scores = joined([self._part(part) for part in images.split(self.batch_size)])
        like = partial(_in_dtype, dtype=images.dtype)
        return self.structure.together(mapped(like, scores))

    def _part(self, images: Tensor) -> Scores:
        present = len(images)
        absent = self.batch_size - present
        if absent:
            images = torch.cat([images, images.new_zeros(absent, *images.shape[1:])])
        scores = self.runner(images)
        for one, name in zip(each(scores), self.structure.names, strict=True):
            if one.ndim == 0 or len(one) != self.batch_size:
                raise DeployError(
                    f"Optimized: {name} has the shape {tuple(one.shape)}, without an entry for each image, so that a "
                    f"batch of {present} cannot be cut from one of {self.batch_size}: pass that many, or take "
                    "backend='eager'"
                )
        return mapped(lambda one: one[:present], scores)

    def train(self, mode: bool = True) -> "Optimized":
        """Refuse: its normalisation is folded away."""
        if mode:
            raise DeployError("Optimized: it can only be evaluated; train the network that it was made from")
        return self

    def extra_repr(self) -> str:
        return (
            f"backend={self.backend}, input_shape={self.input_shape}, batch_size={self.batch_size}, dtype={self.dtype}"
        )


def _in_dtype(scores: Tensor, dtype: torch.dtype) -> Tensor:
    """Scores as the images are; what counts or names something stays in whole numbers."""
    return scores.to(dtype) if scores.is_floating_point() else scores


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
        model: any network, on the CPU or a CUDA device; it is not changed. Where torch.fx cannot follow its `forward`,
            normalisation is not folded, and the report says so. Pruned, weight-normalised and parametrised weights are
            applied.
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
    model = inside(model)
    images = random_images(model, input_shape, batch_size)
    dtype = dtype or images.dtype
    compared = images if calibration is None else calibration[:32].to(images)
    reference = Reference(model, compared)
    net, unfolded = folded_if_possible(model, images)
    contest = Contest(reference, images, dtype, progress=progress, note=unfolded)
    for candidate in _candidates(net, images, dtype, reference.structure, calibration):
        tried = candidate.backend
        if backend == tried.name or (backend == "auto" and images.device.type in tried.devices):
            contest.enter(candidate)
    runner, report = contest.conclude()
    return Optimized(runner, tuple(images.shape), dtype, report, reference.structure)


def _candidates(
    net: nn.Module, images: Tensor, dtype: torch.dtype, structure: Structure, calibration: Tensor | None
) -> Iterator[Candidate]:
    if calibration is not None:
        yield Candidate(OnnxRuntime, partial(OnnxRuntime, net, images, structure, calibration))
        return
    images = images.to(dtype)
    together = merged(net)
    merges = any(isinstance(module, MergedBranches) for module in together.modules())
    for backend in BACKENDS.values():
        yield Candidate(backend, partial(backend, net, images, structure))
        if merges and backend.gains_by_merging:
            yield Candidate(backend, partial(backend, together, images, structure), merged=True)
