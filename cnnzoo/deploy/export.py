"""A network as an ONNX file, which runs without torch."""

import copy
import importlib.util
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from cnnzoo.deploy.checking import Reference, random_images
from cnnzoo.deploy.fold import folded
from cnnzoo.deploy.quantize import quantized
from cnnzoo.errors import DeployError, operation
from cnnzoo.support.files import replacing
from cnnzoo.support.text import first_line

WRITING = ("onnx", "onnxscript")
"""The packages that torch writes ONNX with."""


@operation
def export_onnx(
    model: nn.Module,
    path: Path | str,
    *,
    input_shape: Sequence[int] | None = None,
    calibration: Tensor | None = None,
) -> None:
    """Write a network as ONNX: `images` (batch, C, H, W) to `scores`, in single precision, for any batch.

    Batch normalisation is folded into the convolutions. Where ONNX Runtime is installed, the file has computed the
    same as the model on random images, to 1e-4 of the largest score, before it takes its name.

    Args:
        model: any network that torch can export; it is not changed.
        path: of the file, which is written whole or not at all.
        input_shape: (C, H, W) of the images; by default the network's own.
        calibration: prepared images (N, C, H, W), some hundred typical ones. With them the file calculates in
            integers of eight bits, whose scales are measured on them.

    Raises:
        DeployError: a package is missing, the network cannot be exported, or the file computes something else.

    Examples:
        >>> import cnnzoo
        >>> cnnzoo.export_onnx(cnnzoo.load_pretrained("lenet5"), "lenet5.onnx")
    """
    require(*WRITING, *(["onnxruntime"] if calibration is not None else []))
    path = Path(path)
    if not path.parent.is_dir():
        raise DeployError(f"there is no folder {path.parent} to write {path.name} into; make it first")
    images = random_images(model, input_shape)
    content = onnx_bytes(folded(model), images)
    dtype = None
    if calibration is not None:
        content, images, dtype = quantized(content, calibration), calibration[:32], torch.int8
    if not missing("onnxruntime"):
        Reference(model, images).compare(onnx_runner(content)(images), dtype)
    with replacing(path) as aside:
        aside.write_bytes(content)


def onnx_bytes(model: nn.Module, images: Tensor) -> bytes:
    """A network in evaluation mode as an ONNX model in single precision, `images` to `scores`, for any batch."""
    one = images[:1].detach().float().cpu()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch 2.11's exporter uses what torch 2.11 deprecates
            program = torch.onnx.export(
                copy.deepcopy(model).to("cpu", torch.float32),
                (torch.cat([one, one]),),  # a batch of one would be taken for a constant
                input_names=["images"],
                output_names=["scores"],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        why = first_line(error.__cause__ or error)
        raise DeployError(
            f"torch cannot export this {type(model).__name__}: {why}; torch.export.export says more, and "
            "has to succeed first"
        ) from error
    assert program is not None
    return program.model_proto.SerializeToString()


def onnx_runner(content: bytes) -> Callable[[Tensor], Tensor]:
    """ONNX Runtime on the CPU, with as many threads as torch has: images on the CPU to scores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that spin while they wait take the processor from everything else in the program.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        array = images.detach().float().cpu().contiguous().numpy()
        return torch.from_numpy(session.run(None, {"images": array})[0])

    return run


def missing(*packages: str) -> list[str]:
    """Those of the packages that are not installed."""
    return [package for package in packages if importlib.util.find_spec(package) is None]


def require(*packages: str) -> None:
    """Raise a `DeployError` unless the packages are installed."""
    if absent := missing(*packages):
        raise DeployError(f"needs {' and '.join(absent)}; pip install 'cnnzoo[onnx]'")
