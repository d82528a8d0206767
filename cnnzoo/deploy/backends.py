"""What runs a network for inference: torch itself, its compiler, CUDA graphs, ONNX Runtime and OpenVINO."""

import copy
import functools
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from cnnzoo.deploy.export import WRITING, missing, onnx_bytes, onnx_runner
from cnnzoo.deploy.outputs import Apart, Scores, Structure, mapped
from cnnzoo.deploy.quantize import quantized

Run = Callable[[Tensor], Scores]


class Backend(nn.Module):
    """Runs a network: images (N, C, H, W) to scores, or to a tuple of all tensors that it gives.

    The first call prepares it. What cannot be pickled, a session or what a compiler made, is prepared anew where the
    pickle is loaded.

    Args:
        model: for inference, folded; a backend keeps a copy.
        images: an example batch, on the device and in the dtype that it will calculate in.
        structure: of what the network gives; by default one tensor.
    """

    name: ClassVar[str]
    devices: ClassVar[tuple[str, ...]]
    dtypes: ClassVar[tuple[torch.dtype, ...]] = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
    packages: ClassVar[tuple[str, ...]] = ()
    any_batch: ClassVar[bool] = False
    """Whether it takes batches of every size, and not only of the one that it was made for."""
    gains_by_merging: ClassVar[bool] = False
    """Whether merged branches have ever measured faster on it."""

    def __init__(self, model: nn.Module, images: Tensor, structure: Structure | None = None) -> None:
        super().__init__()
        self.shape, self.device, self.dtype = tuple(images.shape), images.device, images.dtype
        self.run: Run | None = None

    @classmethod
    def unavailable(cls, device: torch.device, dtype: torch.dtype) -> str | None:
        """Why it cannot run here, or None."""
        if device.type not in cls.devices:
            return f"runs on {' and '.join(cls.devices)}, not on {device.type}"
        if dtype not in cls.dtypes:
            return f"does not calculate in {str(dtype).removeprefix('torch.')}"
        absent = missing(*cls.packages)
        return f"not installed: pip install {' '.join(absent)}" if absent else None

    def prepare(self) -> Run:
        """What `forward` calls."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Scores:
        if self.run is None:
            self.run = self.prepare()
        return self.run(images)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"run": None}


class TorchBackend(Backend):
    """Keeps the channels of a pixel side by side in memory, which convolutions run faster on."""

    devices = ("cpu", "cuda")

    def __init__(self, model: nn.Module, images: Tensor, structure: Structure | None = None) -> None:
        super().__init__(model, images)
        model = copy.deepcopy(model).to(images)
        self.layout = {4: torch.channels_last, 5: torch.channels_last_3d}.get(images.ndim)
        if self.layout is not None:
            model = model.to(memory_format=self.layout)
        self.model = model if structure is None or structure.is_one else Apart(model).eval()

    def taken(self, images: Tensor) -> Tensor:
        """Images as the kept model wants them."""
        images = images.to(self.dtype)
        return images if self.layout is None else images.contiguous(memory_format=self.layout)

    def example(self) -> Tensor:
        """A batch such as it was made for."""
        return self.taken(torch.randn(self.shape, device=self.device))


class Eager(TorchBackend):
    """Torch as it is."""

    name = "eager"
    any_batch = True
    gains_by_merging = True

    def prepare(self) -> Run:
        @torch.inference_mode()
        def run(images: Tensor) -> Scores:
            return self.model(self.taken(images))

        return run


class CudaGraphs(TorchBackend):
    """Torch's own kernels, recorded once and started together."""

    name = "cudagraphs"
    devices = ("cuda",)
    gains_by_merging = True

    def prepare(self) -> Run:
        held = self.example()
        with torch.inference_mode(), torch.cuda.device(self.device):
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):  # cuDNN chooses its algorithms before anything is recorded
                for _ in range(3):
                    self.model(held)
            torch.cuda.current_stream().wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                scores = self.model(held)

        @torch.inference_mode()
        def run(images: Tensor) -> Scores:
            held.copy_(images)
            graph.replay()
            return mapped(torch.clone, scores)  # the next call overwrites them

        return run


class Inductor(TorchBackend):
    """Torch's compiler, for one batch size, with the weights taken for constants."""

    name = "inductor"

    def prepare(self) -> Run:
        on_cuda = self.device.type == "cuda"
        how: dict[str, Any] = {"mode": "max-autotune"} if on_cuda else {"options": {"freezing": True}}
        compiled = torch.compile(self.model, dynamic=False, **how)

        @torch.no_grad()  # what is compiled in inference mode is not frozen
        def run(images: Tensor) -> Scores:
            scores = compiled(self.taken(images))
            return mapped(torch.clone, scores) if on_cuda else scores  # its CUDA graph overwrites them

        return run


class OnnxRuntime(Backend):
    """ONNX Runtime on the CPU, in single precision, or with calibration images in integers of eight bits."""

    name = "onnxruntime"
    devices = ("cpu",)
    dtypes = (torch.float32, torch.int8)
    packages = (*WRITING, "onnxruntime")
    any_batch = True

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        structure: Structure | None = None,
        calibration: Tensor | None = None,
    ) -> None:
        super().__init__(model, images)
        content = onnx_bytes(model, images, structure)
        self.onnx = content if calibration is None else quantized(content, calibration)

    def prepare(self) -> Run:
        return onnx_runner(self.onnx)


@functools.cache
def openvino_core() -> Any:
    """OpenVINO's own, one for the whole process.

    OpenVINO lends the thread that compiles first a stack for signals, and unmaps it with the last core; where another
    thread lets go of that, the next signal with a handler, such as an interrupt or the end of a child process, is a
    segmentation fault.
    """
    import openvino

    return openvino.Core()


class OpenVINO(Backend):
    """OpenVINO on the CPU, for one batch size."""

    name = "openvino"
    devices = ("cpu",)
    dtypes = (torch.float32, torch.bfloat16, torch.float16)
    packages = (*WRITING, "openvino")
    precisions: ClassVar = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}

    def __init__(self, model: nn.Module, images: Tensor, structure: Structure | None = None) -> None:
        super().__init__(model, images)
        self.onnx = onnx_bytes(model, images, structure)

    def prepare(self) -> Run:
        core = openvino_core()
        model = core.read_model(self.onnx)
        model.reshape(list(self.shape))
        settings = {
            # Weights and scores stay in single precision. Left to itself it calculates in halves where it can.
            "INFERENCE_PRECISION_HINT": self.precisions[self.dtype],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        request = core.compile_model(model, "CPU", settings).create_infer_request()

        def run(images: Tensor) -> Scores:
            array = images.detach().float().contiguous().numpy()
            found = tuple(torch.from_numpy(one) for one in request.infer([array], share_inputs=True).values())
            return found if len(found) != 1 else found[0]

        return run


BACKENDS: dict[str, type[Backend]] = {
    backend.name: backend for backend in (Eager, CudaGraphs, OnnxRuntime, OpenVINO, Inductor)
}
"""Those that are ready first come first."""
